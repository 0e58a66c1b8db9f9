//! With `ureq`, over plain TCP or with rustls.

use std::sync::Arc;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::Failure;

/// An agent that many share, which keeps no idle connections: each request of a test is to have its own.
///
/// It has no time-outs: with one, ureq looks names up in a thread of its own, and waits for it in a channel of std's.
pub fn agent() -> Agent {
    Agent::new_with_config(Agent::config_builder().max_idle_connections(0).build())
}

/// As [`agent`], for servers that have `certificate` (DER).
pub fn tls_agent(certificate: &[u8]) -> Agent {
    let trusted = [Certificate::from_der(certificate).to_owned()];
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&trusted))
        .build();
    Agent::new_with_config(Agent::config_builder().max_idle_connections(0).tls_config(tls).build())
}

/// Asks for a page that takes its time, and checks that it is the right one.
///
/// # Errors
/// The library's; or it is another page.
pub fn get_slow_page(agent: &Agent, url: &str, number: usize) -> Result<(), Failure> {
    let page = agent.get(format!("{url}/slow/{number}")).call()?.body_mut().read_to_string()?;
    let expected = format!("slow page /slow/{number}");
    if page == expected { Ok(()) } else { Err(format!("{page:?} instead of {expected:?}").into()) }
}
