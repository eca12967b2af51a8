//! A program that takes connections and copies their bytes to the pod's servers: one thread per port, one connection at a time.

use crate::network::{Link, POD};
use crate::system;
use crate::traffic::{self, helper};
use anyhow::Result;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// The first of its ports.
pub(crate) const PORTS: u16 = 7100;
const BUFFER_BYTES: usize = 64 * 1024;

/// Starts it; returns its threads.
pub(crate) fn start(link: &Link) -> Result<Vec<i32>> {
    let mut threads = Vec::new();
    for number in 0..=traffic::PORTS_END - traffic::PORTS {
        let listener = link.pod.run(|| TcpListener::bind((POD, PORTS + number)))??;
        let network = link.pod.clone()?;
        threads.push(helper(move || {
            let _ = network.run(|| serve(&listener, traffic::PORTS + number));
        })?);
    }
    Ok(threads)
}

fn serve(listener: &TcpListener, port: u16) -> io::Result<()> {
    for client in listener.incoming() {
        let (client, server) = (client?, TcpStream::connect((POD, port))?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        copy([&client, &server])?;
    }
    Ok(())
}

/// Until both have ended.
fn copy(streams: [&TcpStream; 2]) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut open = [true, true];
    while open.contains(&true) {
        let ready = system::readable(streams, open)?;
        for (from, to) in [(0, 1), (1, 0)] {
            if !ready[from] {
                continue;
            }
            let length = (&mut &*streams[from]).read(&mut buffer)?;
            if length == 0 {
                open[from] = false;
                let _ = streams[to].shutdown(Shutdown::Write);
            }
            if (&mut &*streams[to]).write_all(&buffer[..length]).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
