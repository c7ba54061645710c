//! Tests of the whole stack, over real HTTP/2 on a loopback port, with services of the suite's contract.
//!
//! - [`world`]: keys, tokens, rights and services for the tests.
//! - [`wire`]: a server, and a client that can send what no proper client would.
//! - [`control`]: the stack without one of its layers: shows that a test can fail.

mod calls;
mod control;
mod credentials;
mod deadlines;
mod matrix;
mod overload;
mod quota;
mod rights;
mod statuses;
mod tenants;
mod told;
mod wire;
mod world;
