//! The text of a client, a server trait and its adapter, for one service.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use prost_build::{Comments, Method, Service, ServiceGenerator};

/// Methods that the generated types have themselves.
const RESERVED: [&str; 3] = ["dispatch", "new", "channel"];

/// prost-build calls it once per service. It cannot fail, so refusals are collected for the caller.
pub(crate) struct Generator {
    refused: Rc<RefCell<Vec<String>>>,
}

impl Generator {
    pub(crate) fn new(refused: Rc<RefCell<Vec<String>>>) -> Generator {
        Generator { refused }
    }

    fn refuse(&self, service: &str, method: &Method, why: &str) {
        self.refused.borrow_mut().push(format!("rpc {service}.{}: {why}", method.proto_name));
    }
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, buf: &mut String) {
        let full_name = if service.package.is_empty() {
            service.proto_name.clone()
        } else {
            format!("{}.{}", service.package, service.proto_name)
        };
        for method in &service.methods {
            if method.client_streaming || method.server_streaming {
                self.refuse(&full_name, method, "streaming is not supported");
            }
            if RESERVED.contains(&method.name.as_str()) {
                self.refuse(&full_name, method, "the generated types have a method of that name themselves");
            }
        }
        client(&service, &full_name, buf);
        server_trait(&service, &full_name, buf);
        adapter(&service, &full_name, buf);
    }
}

/// Writes to a string, which cannot fail.
macro_rules! emit {
    ($out:expr, $($arg:tt)*) => {
        writeln!($out, $($arg)*).expect("writing to a String succeeds")
    };
}

/// The comments of the .proto file, or a sentence of ours where there are none.
fn docs(comments: &Comments, indent: u8, otherwise: &str, out: &mut String) {
    let before = out.len();
    comments.append_with_indent(indent, out);
    if !out[before..].contains("///") {
        emit!(out, "{:width$}/// {otherwise}", "", width = usize::from(indent) * 4);
    }
}

fn client(service: &Service, full_name: &str, out: &mut String) {
    let name = &service.name;
    emit!(out, "/// Client of the service `{full_name}`. Cheap to clone.");
    emit!(out, "#[derive(Clone, Debug)]");
    emit!(out, "#[allow(unreachable_pub)]");
    emit!(out, "pub struct {name}Client {{");
    emit!(out, "    channel: ::fiber_rpc::Channel,");
    emit!(out, "}}");
    emit!(out, "#[allow(unreachable_pub, dead_code, clippy::result_large_err)]");
    emit!(out, "impl {name}Client {{");
    emit!(out, "    /// Calls go over this channel.");
    emit!(out, "    pub fn new(channel: ::fiber_rpc::Channel) -> Self {{");
    emit!(out, "        Self {{ channel }}");
    emit!(out, "    }}");
    emit!(out, "    /// The channel that calls go over.");
    emit!(out, "    pub fn channel(&self) -> &::fiber_rpc::Channel {{");
    emit!(out, "        &self.channel");
    emit!(out, "    }}");
    for method in &service.methods {
        let (proto, input, output) = (&method.proto_name, &method.input_type, &method.output_type);
        docs(&method.comments, 1, &format!("Calls `{full_name}.{proto}` and waits for the reply."), out);
        emit!(out, "    pub fn {}(", method.name);
        emit!(out, "        &self,");
        emit!(out, "        request: &{input},");
        emit!(out, "        deadline: ::std::time::Instant,");
        emit!(out, "    ) -> ::core::result::Result<{output}, ::fiber_rpc::CallError> {{");
        emit!(
            out,
            "        ::fiber_rpc::typed::call(&self.channel, \"{full_name}\", \"{proto}\", request, deadline)"
        );
        emit!(out, "    }}");
    }
    emit!(out, "}}");
}

fn server_trait(service: &Service, full_name: &str, out: &mut String) {
    docs(
        &service.comments,
        0,
        &format!("The service `{full_name}`, to be served by [`{}Server`].", service.name),
        out,
    );
    emit!(out, "#[allow(unreachable_pub)]");
    emit!(out, "pub trait {}: ::core::marker::Send + ::core::marker::Sync + 'static {{", service.name);
    for method in &service.methods {
        let (proto, input, output) = (&method.proto_name, &method.input_type, &method.output_type);
        docs(&method.comments, 1, &format!("Serves `{full_name}.{proto}`."), out);
        emit!(out, "    fn {}(", method.name);
        emit!(out, "        &self,");
        emit!(out, "        cx: &::fiber_rpc::CallContext,");
        emit!(out, "        request: {input},");
        emit!(out, "    ) -> ::core::result::Result<{output}, ::fiber_rpc::Status>;");
    }
    emit!(
        out,
        "    /// Where a method runs; a fiber of its own unless overridden. `method` is its name in the .proto file."
    );
    emit!(out, "    fn dispatch(&self, method: &str) -> ::fiber_rpc::Dispatch {{");
    emit!(out, "        let _ = method;");
    emit!(out, "        ::fiber_rpc::Dispatch::Fiber");
    emit!(out, "    }}");
    emit!(out, "}}");
}

fn adapter(service: &Service, full_name: &str, out: &mut String) {
    let name = &service.name;
    emit!(out, "/// Makes a [`{name}`] a [`Service`](::fiber_rpc::Service) that a server can take.");
    emit!(out, "#[derive(Clone, Debug)]");
    emit!(out, "#[allow(unreachable_pub)]");
    emit!(out, "pub struct {name}Server<T>(T);");
    emit!(out, "#[allow(unreachable_pub, dead_code)]");
    emit!(out, "impl<T: {name}> {name}Server<T> {{");
    emit!(out, "    /// Serves with this implementation.");
    emit!(out, "    pub fn new(implementation: T) -> Self {{");
    emit!(out, "        Self(implementation)");
    emit!(out, "    }}");
    emit!(out, "}}");
    emit!(out, "impl<T: {name}> ::fiber_rpc::Service for {name}Server<T> {{");
    emit!(out, "    fn name(&self) -> &str {{");
    emit!(out, "        \"{full_name}\"");
    emit!(out, "    }}");
    emit!(out, "    fn dispatch(&self, method: &str) -> ::fiber_rpc::Dispatch {{");
    emit!(out, "        {name}::dispatch(&self.0, method)");
    emit!(out, "    }}");
    emit!(out, "    fn call(");
    emit!(out, "        &self,");
    emit!(out, "        cx: &::fiber_rpc::CallContext,");
    emit!(out, "        method: &str,");
    emit!(out, "        payload: ::fiber_rpc::Bytes,");
    emit!(out, "    ) -> ::core::result::Result<::fiber_rpc::Bytes, ::fiber_rpc::Status> {{");
    emit!(out, "        match method {{");
    for method in &service.methods {
        emit!(
            out,
            "            \"{}\" => ::fiber_rpc::typed::serve(payload, |request| {{",
            method.proto_name
        );
        emit!(out, "                {name}::{}(&self.0, cx, request)", method.name);
        emit!(out, "            }}),");
    }
    emit!(out, "            _ => {{");
    emit!(out, "                let _ = (cx, payload);");
    emit!(
        out,
        "                ::core::result::Result::Err(::fiber_rpc::Status::unknown_method(\"{full_name}\", method))"
    );
    emit!(out, "            }}");
    emit!(out, "        }}");
    emit!(out, "    }}");
    emit!(out, "}}");
}
