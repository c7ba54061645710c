//! Everything that is tested on the suite as a whole. One binary: it links once.
//!
//! - [`house`]: rules about the code itself.

mod house;
