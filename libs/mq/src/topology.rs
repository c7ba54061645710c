//! What is declared on the broker.
