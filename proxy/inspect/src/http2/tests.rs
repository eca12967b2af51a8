//! Whole conversations, frame by frame, as the session drives them.

mod driver;
mod gate;
