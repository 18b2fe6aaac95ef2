//! A broker behind TLS that lets a box in and then fails it in one way, once; whoever comes back finds
//! it mute, so that the reason stays on the page for a while.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Shown;

/// A box gives a handshake up after ten seconds.
const HANDSHAKE_TIME: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Closes without a word a while after the link stood, so many times.
    Closes(u32),
    /// MQTT 5, 3.9.3: not authorized.
    ForbidsSubscription,
    /// MQTT 5, 4.13: server shutting down.
    SendsAway,
    /// MQTT 5, 4.13: session taken over.
    HandsOver,
}

/// Listens on loopback with this certificate; the port.
pub fn tricky(shown: &Shown, trick: Trick) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let times = match trick {
        Trick::Closes(times) => times,
        _ => 1,
    };
    std::thread::spawn(move || {
        let mut played = 0;
        for tcp in listener.incoming().flatten() {
            let tls = ServerConnection::new(Arc::clone(&server)).unwrap();
            let stream = StreamOwned::new(tls, tcp);
            if played == times {
                std::thread::spawn(|| dawdle(stream));
            } else if play(stream, trick).is_ok() {
                // A box that breaks off ends its turn.
                played += 1;
            }
        }
    });
    port
}

/// Takes as long for the handshake as a box has patience, and says nothing after it.
fn dawdle(mut box_: StreamOwned<ServerConnection, TcpStream>) {
    std::thread::sleep(HANDSHAKE_TIME);
    while read_packet(&mut box_).is_ok() {}
}

fn play(mut box_: StreamOwned<ServerConnection, TcpStream>, trick: Trick) -> io::Result<()> {
    loop {
        let (first, body) = read_packet(&mut box_)?;
        match first >> 4 {
            CONNECT => box_.write_all(&[0x20, 3, 0, 0, 0])?,
            SUBSCRIBE => {
                let code = match trick {
                    Trick::ForbidsSubscription => 0x87,
                    _ => 1,
                };
                box_.write_all(&[0x90, 4, body[0], body[1], 0, code])?;
                match trick {
                    Trick::SendsAway => box_.write_all(&[0xe0, 2, 0x8b, 0])?,
                    Trick::HandsOver => box_.write_all(&[0xe0, 2, 0x8e, 0])?,
                    _ => {}
                }
            }
            PUBLISH if first & 0b110 != 0 => {
                let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                box_.write_all(&[0x40, 2, body[id], body[id + 1]])?;
            }
            PINGREQ => box_.write_all(&[0xd0, 0])?,
            DISCONNECT => return Ok(()),
            _ => {}
        }
        box_.flush()?;
        let end = match trick {
            Trick::SendsAway | Trick::HandsOver => SUBSCRIBE,
            Trick::ForbidsSubscription => continue,
            Trick::Closes(_) => PINGREQ,
        };
        if first >> 4 == end {
            return Ok(());
        }
    }
}

/// Packet types of MQTT 5, 2.1.2.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

fn read_packet(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        from.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((first, body))
}
