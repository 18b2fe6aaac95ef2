//! Tells the office's network the box's name: `<name>.local` (RFC 6762) and the service
//! `_https._tcp` (RFC 6763), so that nobody has to know an address.
//!
//! It is written here because the crates for it bring a thread and wake-ups of their own, and weigh
//! more than all of this: the box answers for one name and one service. Where Avahi or systemd answer
//! for the machine's own name they go on doing so beside it. Answers go over IPv4 and only to the
//! networks that the page listens on. A name is asked for before it is used; a machine that has it
//! already keeps it, and the status says so.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::edge::config::HttpConfig;
use crate::edge::listen::stopped;
use crate::edge::live::Live;
use crate::edge::status::NameState;
use crate::model::MonoMs;
use crate::shell::clock::boot_ms;
use crate::shell::dns::{
    A, AAAA, ANY, Data, Message, NSEC, PTR, Question, Record, SRV, TXT, read, write, write_name,
};
use crate::shell::lan::{self, Changes, Interface};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// Of what names an address, and of everything else (RFC 6762, 10).
const HOST_TTL_S: u32 = 120;
const OTHER_TTL_S: u32 = 4_500;
/// Of an answer to somebody who knows nothing of multicast (6.7).
const LEGACY_TTL_S: u32 = 10;
const PROBES: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// Who has lost against another that asked for the name at the same time asks again after this.
const LOST_PAUSE: Duration = Duration::from_secs(1);
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);
/// A name that somebody else has is asked for again after this.
const TAKEN_PAUSE: Duration = Duration::from_secs(120);
/// Answers at once, and how soon there is another: whoever asks without end is not answered so.
const BURST: u64 = 10;
const REFILL_MS: u64 = 100;
const MESSAGE_BYTES_MAX: usize = 9_000;
const SERVICE: &str = "_https._tcp.local";
const SERVICES: &str = "_services._dns-sd._udp.local";

/// Runs until `stop`.
pub async fn run(http: HttpConfig, live: Arc<Live>, mut stop: watch::Receiver<bool>) {
    let mut changes = Changes::listen();
    let mut known: Option<Vec<Link>> = None;
    let mut tasks = JoinSet::new();
    loop {
        let links = lan::interfaces()
            .map(|interfaces| links(&http, &interfaces))
            .unwrap_or_default();
        if known.as_ref() != Some(&links) {
            tasks.shutdown().await;
            let states = Arc::new(States {
                live: Arc::clone(&live),
                of_links: Mutex::default(),
            });
            states.set(0, NameState::Off);
            let own: Vec<Ipv4Addr> = links.iter().flat_map(|link| link.v4.clone()).collect();
            for link in &links {
                let speaker = Speaker {
                    name: format!("{}.local", http.name),
                    instance: format!("{}.{SERVICE}", http.name),
                    port: http.listen.port(),
                    link: link.clone(),
                    own: own.clone(),
                    states: Arc::clone(&states),
                };
                tasks.spawn(speaker.run(stop.clone()));
            }
            known = Some(links);
        }
        tokio::select! {
            () = changes.next() => {}
            () = stopped(&mut stop) => break,
        }
    }
    // Each says goodbye.
    while tasks.join_next().await.is_some() {}
}

/// A network that the page is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    interface: Interface,
    /// Addresses that are told there.
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

/// The networks on which the page listens.
fn links(http: &HttpConfig, interfaces: &[Interface]) -> Vec<Link> {
    let listens = |address: IpAddr| match http.listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        one => one == address,
    };
    let speaks = |interface: &&Interface| {
        interface.is_multicast && !interface.is_loopback && !interface.v4.is_empty()
    };
    let link = |interface: &Interface| Link {
        v4: interface
            .v4
            .iter()
            .map(|(address, _)| *address)
            .filter(|address| listens((*address).into()))
            .collect(),
        v6: interface
            .v6
            .iter()
            .copied()
            .filter(|address| listens((*address).into()) && !address.is_unicast_link_local())
            .collect(),
        interface: interface.clone(),
    };
    let links = interfaces.iter().filter(speaks).map(link);
    links
        .filter(|link| !link.v4.is_empty() || !link.v6.is_empty())
        .collect()
}

/// How the name stands on each link; together they are what the status says.
struct States {
    live: Arc<Live>,
    of_links: Mutex<BTreeMap<u32, NameState>>,
}

impl States {
    fn set(&self, link: u32, state: NameState) -> bool {
        let mut states = self.of_links.lock().unwrap_or_else(PoisonError::into_inner);
        let before = states.insert(link, state);
        let has = |wanted| states.values().any(|state| *state == wanted);
        let all = match (has(NameState::Taken), has(NameState::On)) {
            (true, _) => NameState::Taken,
            (false, true) => NameState::On,
            (false, false) => NameState::Off,
        };
        self.live.lan_name(all);
        before != Some(state)
    }
}

/// Speaks on one link.
struct Speaker {
    name: String,
    instance: String,
    port: u16,
    link: Link,
    /// The machine's addresses on all links: two of them may be one network.
    own: Vec<Ipv4Addr>,
    states: Arc<States>,
}

/// What came out of asking for the name, or ended its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Free,
    Taken,
    /// Another machine asked at the same time, and goes first.
    Lost,
    /// Another machine speaks for the name, too.
    Doubted,
    Stopped,
}

impl Speaker {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let interface = &self.link.interface.name;
        let socket = match open(&self.link) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, interface, "the network is not told the box's name");
                return;
            }
        };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let asked = tokio::select! {
                asked = self.ask(&socket, &mut buffer) => asked,
                () = stopped(&mut stop) => return,
            };
            let pause = match asked {
                Outcome::Free => {
                    if self.states.set(self.link.interface.index, NameState::On) {
                        tracing::info!(
                            name = self.name,
                            interface,
                            "the network is told the box's name"
                        );
                    }
                    if self.answer(&socket, &mut buffer, &mut stop).await == Outcome::Stopped {
                        self.send(&socket, &self.all(0)).await;
                        return;
                    }
                    LOST_PAUSE
                }
                Outcome::Taken => {
                    if self.states.set(self.link.interface.index, NameState::Taken) {
                        tracing::warn!(
                            name = self.name,
                            interface,
                            "another machine in the network has the box's name; set another http.name"
                        );
                    }
                    TAKEN_PAUSE
                }
                Outcome::Lost | Outcome::Doubted | Outcome::Stopped => LOST_PAUSE,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Asks whether somebody has the name (RFC 6762, 8.1).
    async fn ask(&self, socket: &UdpSocket, buffer: &mut [u8]) -> Outcome {
        let mut random = [0];
        // Without random numbers the first pause is the longest.
        let spread = getrandom::fill(&mut random).map_or(u8::MAX, |()| random[0]);
        sleep(PROBE_PAUSE * u32::from(spread) / 256).await;
        let probe = Message {
            questions: vec![Question {
                name: self.name.clone(),
                kind: ANY,
            }],
            authorities: self.addresses(HOST_TTL_S),
            ..Message::default()
        };
        for _ in 0..PROBES {
            self.send(socket, &probe).await;
            let until_ms = boot_ms() + PROBE_PAUSE.as_millis() as u64;
            while boot_ms() < until_ms {
                let left = Duration::from_millis(until_ms.saturating_sub(boot_ms()));
                let Ok((heard, _)) = timeout(left, self.hear(socket, buffer)).await else {
                    break;
                };
                if heard.is_response && self.is_others(&heard.answers) {
                    return Outcome::Taken;
                }
                if !heard.is_response
                    && self.is_others(&heard.authorities)
                    && self.goes_after(&heard.authorities)
                {
                    return Outcome::Lost;
                }
            }
        }
        Outcome::Free
    }

    /// Announces the name and answers for it until somebody else does too.
    async fn answer(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        stop: &mut watch::Receiver<bool>,
    ) -> Outcome {
        let mut announcements = 2;
        let mut full_at_ms: MonoMs = 0;
        loop {
            let announce = async {
                match announcements {
                    0 => std::future::pending().await,
                    2 => {}
                    _ => sleep(ANNOUNCE_PAUSE).await,
                }
            };
            let (heard, from) = tokio::select! {
                heard = self.hear(socket, buffer) => heard,
                () = announce => {
                    self.send(socket, &self.all(1)).await;
                    announcements -= 1;
                    continue;
                }
                () = stopped(stop) => return Outcome::Stopped,
            };
            if heard.is_response {
                if self.is_others(&heard.answers) || self.is_others(&heard.additionals) {
                    return Outcome::Doubted;
                }
                continue;
            }
            let is_legacy = from.port() != PORT;
            let Some(answer) = self.reply(&heard, is_legacy) else {
                continue;
            };
            let now_ms = boot_ms();
            full_at_ms = full_at_ms.max(now_ms);
            if BURST * REFILL_MS <= full_at_ms - now_ms {
                continue;
            }
            full_at_ms += REFILL_MS;
            match is_legacy {
                // Whoever asked may be gone; he asks again if not.
                true => drop(socket.send_to(&write(&answer), from).await),
                false => self.send(socket, &answer).await,
            }
        }
    }

    /// The next sound message of this network.
    async fn hear(&self, socket: &UdpSocket, buffer: &mut [u8]) -> (Message, SocketAddr) {
        loop {
            match socket.recv_from(buffer).await {
                Ok((length, from)) => {
                    let is_near = match from.ip() {
                        IpAddr::V4(from) => self.link.interface.reaches(from),
                        IpAddr::V6(_) => false,
                    };
                    if is_near && let Some(message) = read(&buffer[..length]) {
                        return (message, from);
                    }
                }
                // Such as a network that is down for a moment.
                Err(_) => sleep(PROBE_PAUSE).await,
            }
        }
    }

    async fn send(&self, socket: &UdpSocket, message: &Message) {
        let group = SocketAddrV4::new(GROUP, PORT);
        if let Err(error) = socket.send_to(&write(message), group).await {
            tracing::debug!(%error, "the network cannot be told the box's name now");
        }
    }

    /// Whether somebody else speaks for our name.
    fn is_others(&self, records: &[Record]) -> bool {
        records.iter().any(|record| {
            record.name == self.name
                && match &record.data {
                    Data::V4(address) => !self.own.contains(address),
                    Data::V6(address) => {
                        !self.link.v6.contains(address) && !self.link.interface.v6.contains(address)
                    }
                    _ => false,
                }
        })
    }

    /// Of two that ask at the same time the one with the greater address goes first (8.2).
    fn goes_after(&self, others: &[Record]) -> bool {
        let others = others.iter().filter_map(|record| match record.data {
            Data::V4(address) if record.name == self.name => Some(address),
            _ => None,
        });
        self.link.v4.iter().min() < others.min().as_ref()
    }

    /// What we have to say to a question; none where it does not concern us.
    fn reply(&self, heard: &Message, is_legacy: bool) -> Option<Message> {
        let mut answers: Vec<Record> = Vec::new();
        let mut additionals: Vec<Record> = Vec::new();
        for Question { name, kind } in &heard.questions {
            let wants = |of: u16| *kind == of || *kind == ANY;
            if *name == self.name {
                let before = answers.len();
                let addresses = self.addresses(HOST_TTL_S);
                answers.extend(addresses.into_iter().filter(|record| wants(record.kind)));
                if answers.len() == before {
                    answers.push(self.nothing_else());
                }
            } else if *name == SERVICE && wants(PTR) {
                answers.push(self.pointer(SERVICE, &self.instance));
                additionals.extend(self.service());
                additionals.extend(self.addresses(HOST_TTL_S));
            } else if *name == SERVICES && wants(PTR) {
                answers.push(self.pointer(SERVICES, SERVICE));
            } else if *name == self.instance {
                let service = self.service();
                answers.extend(service.into_iter().filter(|record| wants(record.kind)));
                additionals.extend(self.addresses(HOST_TTL_S));
            }
        }
        // What the asker knows already, and for long enough, is not said (7.1).
        answers.retain(|record| {
            !heard.answers.iter().any(|known| {
                known.name == record.name
                    && known.data == record.data
                    && record.ttl_s / 2 <= known.ttl_s
            })
        });
        if answers.is_empty() {
            return None;
        }
        let mut reply = Message {
            is_response: true,
            answers,
            additionals,
            ..Message::default()
        };
        if is_legacy {
            reply.id = heard.id;
            reply.questions = heard.questions.clone();
            for record in reply.answers.iter_mut().chain(&mut reply.additionals) {
                record.ttl_s = record.ttl_s.min(LEGACY_TTL_S);
                record.is_only = false;
            }
        }
        Some(reply)
    }

    /// Everything we have to say; with 0 it ends.
    fn all(&self, times: u32) -> Message {
        let mut answers = self.addresses(HOST_TTL_S);
        answers.extend(self.service());
        answers.push(self.pointer(SERVICE, &self.instance));
        for record in &mut answers {
            record.ttl_s *= times;
        }
        Message {
            is_response: true,
            answers,
            ..Message::default()
        }
    }

    fn addresses(&self, ttl_s: u32) -> Vec<Record> {
        let record = |kind, data| Record {
            name: self.name.clone(),
            kind,
            is_only: true,
            ttl_s,
            data,
        };
        let v4 = self.link.v4.iter().map(|v4| record(A, Data::V4(*v4)));
        let v6 = self.link.v6.iter().map(|v6| record(AAAA, Data::V6(*v6)));
        v4.chain(v6).collect()
    }

    /// Where the service is, and that its page begins at the root.
    fn service(&self) -> Vec<Record> {
        let record = |kind, ttl_s, data| Record {
            name: self.instance.clone(),
            kind,
            is_only: true,
            ttl_s,
            data,
        };
        let place = Data::Service {
            port: self.port,
            host: self.name.clone(),
        };
        vec![
            record(SRV, HOST_TTL_S, place),
            record(TXT, OTHER_TTL_S, Data::Other(b"\x06path=/".to_vec())),
        ]
    }

    fn pointer(&self, name: &str, to: &str) -> Record {
        Record {
            name: name.to_owned(),
            kind: PTR,
            is_only: false,
            ttl_s: OTHER_TTL_S,
            data: Data::Name(to.to_owned()),
        }
    }

    /// That the name has addresses and nothing else (6.1).
    fn nothing_else(&self) -> Record {
        let mut data = Vec::new();
        write_name(&mut data, &self.name);
        let mut kinds = [0_u8; 4];
        for (kind, is_there) in [
            (A, !self.link.v4.is_empty()),
            (AAAA, !self.link.v6.is_empty()),
        ] {
            if is_there {
                kinds[usize::from(kind / 8)] |= 0x80 >> (kind % 8);
            }
        }
        data.extend([0, kinds.len() as u8]);
        data.extend(kinds);
        Record {
            name: self.name.clone(),
            kind: NSEC,
            is_only: true,
            ttl_s: HOST_TTL_S,
            data: Data::Other(data),
        }
    }
}

/// A socket that hears and speaks to the group on this link and nowhere else.
fn open(link: &Link) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Others on this machine may answer for other names.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(GROUP, PORT).into())?;
    let index = InterfaceIndexOrAddress::Index(link.interface.index);
    socket.join_multicast_v4_n(&GROUP, &index)?;
    socket.set_multicast_all_v4(false)?;
    let (own, _) = link.interface.v4.first().expect("a link has an address");
    socket.set_multicast_if_v4(own)?;
    socket.set_multicast_ttl_v4(255)?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::connectors::Board;
    use crate::edge::orders::Steering;
    use crate::model::UnixMs;
    use crate::model::order::Timetable;
    use crate::shell::lan::Mask;

    fn interface(name: &str, last: u8) -> Interface {
        Interface {
            name: name.to_owned(),
            index: u32::from(last),
            is_loopback: name == "lo",
            is_multicast: true,
            v4: vec![(
                Ipv4Addr::new(10, 9, last, 1),
                Mask(Ipv4Addr::new(255, 255, 255, 0)),
            )],
            v6: vec!["fe80::1".parse().unwrap(), "fd00::1".parse().unwrap()],
        }
    }

    fn http(listen: &str) -> HttpConfig {
        HttpConfig {
            listen: listen.parse().unwrap(),
            tls: None,
            name: "xa-tan-bien".to_owned(),
            mdns: true,
            tokens: Vec::new(),
            body_bytes_max: 0,
            connections_max: 1,
            per_address_max: 1,
        }
    }

    fn speaker() -> Speaker {
        let link = links(&http("[::]:8480"), &[interface("eth0", 1)]).remove(0);
        let live = Live::new(
            UnixMs(0),
            Arc::new(Board::default()),
            Arc::new(Steering::default()),
            Timetable::default(),
        );
        Speaker {
            name: "xa-tan-bien.local".to_owned(),
            instance: format!("xa-tan-bien.{SERVICE}"),
            port: 8480,
            own: link.v4.clone(),
            link,
            states: Arc::new(States {
                live: Arc::new(live),
                of_links: Mutex::default(),
            }),
        }
    }

    fn asked(name: &str, kind: u16) -> Message {
        Message {
            id: 9,
            questions: vec![Question {
                name: name.to_owned(),
                kind,
            }],
            ..Message::default()
        }
    }

    fn kinds(records: &[Record]) -> Vec<u16> {
        records.iter().map(|record| record.kind).collect()
    }

    #[test]
    fn only_where_the_page_listens() {
        let all = [
            interface("lo", 0),
            interface("eth0", 1),
            interface("wlan0", 2),
        ];
        let names = |listen: &str| -> Vec<String> {
            let links = links(&http(listen), &all);
            links.into_iter().map(|link| link.interface.name).collect()
        };
        assert_eq!(names("0.0.0.0:8480"), ["eth0", "wlan0"]);
        assert_eq!(names("10.9.2.1:8480"), ["wlan0"]);
        assert!(names("10.9.3.1:8480").is_empty());
        assert!(names("127.0.0.1:8480").is_empty());
        assert!(links(&http("0.0.0.0:1"), &all)[0].v6.is_empty());
        assert_eq!(links(&http("[::]:1"), &all)[0].v6.len(), 1);
    }

    #[test]
    fn each_question_has_its_answer_and_others_have_none() {
        let speaker = speaker();
        let answers = |name: &str, kind| {
            let reply = speaker.reply(&asked(name, kind), false);
            reply.map(|reply| kinds(&reply.answers))
        };
        assert_eq!(answers("xa-tan-bien.local", A), Some(vec![A]));
        assert_eq!(answers("xa-tan-bien.local", ANY), Some(vec![A, AAAA]));
        assert_eq!(answers("xa-tan-bien.local", TXT), Some(vec![NSEC]));
        assert_eq!(answers(SERVICE, PTR), Some(vec![PTR]));
        assert_eq!(answers(SERVICES, PTR), Some(vec![PTR]));
        assert_eq!(
            answers(&format!("xa-tan-bien.{SERVICE}"), ANY),
            Some(vec![SRV, TXT])
        );
        for (name, kind) in [("khac.local", A), (SERVICE, A), ("local", ANY), ("", ANY)] {
            assert_eq!(answers(name, kind), None, "{name}");
        }
        let legacy = speaker.reply(&asked("xa-tan-bien.local", A), true).unwrap();
        assert_eq!((legacy.id, legacy.questions.len()), (9, 1));
        assert!(
            legacy
                .answers
                .iter()
                .all(|one| one.ttl_s <= 10 && !one.is_only)
        );
        // What is known need not be said.
        let mut knows = asked(SERVICE, PTR);
        knows
            .answers
            .push(speaker.pointer(SERVICE, &speaker.instance));
        assert_eq!(speaker.reply(&knows, false), None);
        knows.answers[0].ttl_s = OTHER_TTL_S / 2 - 1;
        assert!(speaker.reply(&knows, false).is_some());
    }

    #[test]
    fn another_machine_is_told_from_ourselves() {
        let speaker = speaker();
        let of = |last| {
            let mut records = speaker.addresses(HOST_TTL_S);
            records[0].data = Data::V4(Ipv4Addr::new(10, 9, 1, last));
            records
        };
        assert!(!speaker.is_others(&of(1)));
        assert!(speaker.is_others(&of(2)));
        assert!(speaker.goes_after(&of(2)));
        assert!(!speaker.goes_after(&of(0)));
    }
}
