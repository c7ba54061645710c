//! One confirmed publish.
