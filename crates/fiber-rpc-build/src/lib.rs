//! Build-script support for fiber-rpc.
