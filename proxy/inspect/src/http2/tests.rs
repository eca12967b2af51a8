//! Whole conversations, frame by frame, as the session drives them.

mod change;
mod connection;
mod corpora;
mod cuts;
mod driver;
mod floods;
mod gate;
mod heads;
