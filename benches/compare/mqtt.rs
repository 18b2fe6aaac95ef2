//! As much of MQTT 3.1.1 as the peers' publisher and subscriber need: QoS 1, and nothing that costs
//! them time.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

/// What a broker says.
pub enum Packet<'a> {
    Connected,
    Subscribed,
    Acknowledged,
    Message { number: u16, body: &'a [u8] },
}

pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Asks without TLS for the session that the broker keeps for this name. The answer may already be
    /// followed by messages, so that only [`Client::receive`] reads it.
    pub fn connect(port: u16, name: &str) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("no broker listens")?;
        stream.set_nodelay(true)?;
        let mut client = Client {
            stream,
            unread: Vec::new(),
        };
        // Level 4, session kept, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0];
        push_text(&mut body, name);
        client.send(&packet(0x10, &body))?;
        Ok(client)
    }

    pub fn subscribe(&mut self, topic: &str) -> Result<()> {
        let mut body = vec![0, 1];
        push_text(&mut body, topic);
        body.push(1);
        self.send(&packet(0x82, &body))
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the broker is gone")
    }

    /// Waits for bytes, and hands over all packets that are complete by then.
    pub fn receive(&mut self, mut each: impl FnMut(Packet)) -> Result<()> {
        let mut buffer = [0; 256 * 1024];
        let length = self.stream.read(&mut buffer)?;
        ensure!(0 < length, "the broker has closed the connection");
        self.unread.extend_from_slice(&buffer[..length]);
        let mut at = 0;
        while let Some((first, body)) = next(&self.unread[at..])? {
            at += body.end;
            let body = &self.unread[at - (body.end - body.start)..at];
            if let Some(packet) = read(first, body)? {
                each(packet);
            }
        }
        self.unread.drain(..at);
        Ok(())
    }
}

/// A QoS 1 message.
pub fn publish(topic: &str, number: u16, record: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + record.len() + 4);
    push_text(&mut body, topic);
    body.extend_from_slice(&number.to_be_bytes());
    body.extend_from_slice(record);
    packet(0x32, &body)
}

pub fn acknowledge(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [0x40, 2, high, low]
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        bytes.push(if rest == 0 { digit } else { digit | 0x80 });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// The first byte of the first packet, and where its body stands, once all of it is here.
fn next(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>> {
    let mut length = 0;
    for at in 1..=4 {
        let Some(&digit) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(digit & 0x7f) << (7 * (at - 1));
        if digit & 0x80 == 0 {
            let body = at + 1..at + 1 + length;
            return Ok((body.end <= bytes.len()).then(|| (bytes[0], body)));
        }
    }
    bail!("the broker sends what is not MQTT")
}

fn read(first: u8, body: &[u8]) -> Result<Option<Packet<'_>>> {
    Ok(match first >> 4 {
        2 => {
            ensure!(
                body.get(1) == Some(&0),
                "the broker refuses the client: {body:?}"
            );
            Some(Packet::Connected)
        }
        3 => {
            let (length, rest) = body.split_first_chunk().context("a message has a topic")?;
            let rest = &rest[usize::from(u16::from_be_bytes(*length))..];
            let (number, body) = rest.split_first_chunk().context("a message has a number")?;
            Some(Packet::Message {
                number: u16::from_be_bytes(*number),
                body,
            })
        }
        4 => Some(Packet::Acknowledged),
        9 => Some(Packet::Subscribed),
        _ => None,
    })
}
