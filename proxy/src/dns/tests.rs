//! Names as they are learned, and questions over real sockets.
