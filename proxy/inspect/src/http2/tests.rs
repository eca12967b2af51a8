//! Whole conversations, frame by frame, as the session drives them.

mod advisories;
mod change;
mod connection;
mod corpora;
mod cuts;
mod driver;
mod floods;
mod gate;
mod heads;
mod websocket;
