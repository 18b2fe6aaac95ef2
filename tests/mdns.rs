//! The box's name in a real network of its own: two machines on a cable, made of namespaces.
#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::process::{Command, Stdio};

use one_box::{SOON, XA, one_box};
use rig::{Process, Rig, run, tramd, wait_for};
use serde_json::Value;

const OTHER: &str = "xa-hoa-hiep";
/// Asks the group and prints in hexadecimal what comes back within a second and a half: as somebody
/// who knows nothing of multicast when `legacy`, else as a member of the group.
const ASK: &str = r#"
import socket, struct, sys, time
own, name, kind, legacy = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "legacy"
words = b"".join(bytes([len(w)]) + w for w in name.encode().split(b"."))
question = struct.pack(">6H", 77, 0, 1, 0, 0, 0) + words + b"\0" + struct.pack(">2H", kind, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 0 if legacy else 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
if not legacy:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                 socket.inet_aton("224.0.0.251") + socket.inet_aton(own))
s.sendto(question, ("224.0.0.251", 5353))
end = time.time() + 1.5
while time.time() < end:
    s.settimeout(max(0.01, end - time.time()))
    try:
        data, place = s.recvfrom(9000)
    except socket.timeout:
        break
    if data[2] & 0x80:
        print(place[0], data.hex())
"#;

/// A machine with one network card.
struct Machine {
    process: Process,
    address: &'static str,
}

impl Machine {
    fn new(rig: &Rig, name: &str, address: &'static str) -> Machine {
        let log = rig.folder.path().join("machines.log");
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "600"]);
        Machine {
            process: Process::start(name, &mut command, &log),
            address,
        }
    }

    /// A program on this machine.
    fn runs(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process.pid()));
        command.arg(program);
        command
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        let mut command = self.runs("/sbin/ip");
        let status = command.args(arguments).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn up(&self, card: &str) -> bool {
        let address = format!("{}/24", self.address);
        self.ip(&["link", "set", "lo", "up"])
            && self.ip(&["addr", "add", &address, "dev", card])
            && self.ip(&["link", "set", card, "up"])
    }

    /// What the other machine answers to a question: who, and the message in hexadecimal.
    fn asks(&self, name: &str, kind: u16, how: &str) -> Vec<(String, String)> {
        let mut command = self.runs("python3");
        command.args(["-c", ASK, self.address, name, &kind.to_string(), how]);
        let output = run(&mut command, 0);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(who, what)| (who.to_owned(), what.to_owned()))
            .collect()
    }
}

/// Two machines on a cable; none where no network can be made.
fn network(rig: &Rig) -> Option<[Machine; 2]> {
    let machines = [
        Machine::new(rig, "one", "10.9.7.1"),
        Machine::new(rig, "two", "10.9.7.2"),
    ];
    let own = fs::read_link("/proc/self/ns/net").ok();
    wait_for("the machines are there", SOON, || {
        machines.iter().all(|machine| {
            let namespace = fs::read_link(format!("/proc/{}/ns/net", machine.process.pid()));
            namespace.ok() != own
        })
    });
    let other = machines[1].process.pid().to_string();
    let is_made = machines[0].ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"])
        && machines[0].ip(&["link", "set", "v1", "netns", &other])
        && machines[0].up("v0")
        && machines[1].up("v1");
    if !is_made {
        println!("SKIPPED: no network can be made here");
    }
    is_made.then_some(machines)
}

fn configure(rig: &Rig, name: &str, lines: &str) {
    let text = format!("[http]\nlisten = \"0.0.0.0:8480\"\n{lines}\n");
    fs::write(rig.boxes[name].folder.join("tramd.d/30-lan.toml"), text).unwrap();
}

/// Starts a box on a machine.
fn start(rig: &mut Rig, name: &str, machine: &Machine) {
    let log = rig.folder.path().join(format!("{name}.log"));
    let program = tramd().get_program().to_owned();
    let config = rig.boxes[name].folder.join("tramd.toml");
    let mut command = machine.runs(program.to_str().unwrap());
    command.args(["run", "--config"]).arg(config);
    rig.boxes.get_mut(name).unwrap().process = Some(Process::start(name, &mut command, &log));
    wait_for("the box runs", SOON, || {
        lan(rig, name).is_some_and(|_| is_running(rig, name))
    });
}

fn status(rig: &Rig, name: &str) -> Option<Value> {
    let mut command = tramd();
    let config = rig.boxes[name].folder.join("tramd.toml");
    let output = command
        .args(["status", "--json", "--config"])
        .arg(config)
        .output();
    serde_json::from_slice(&output.unwrap().stdout).ok()
}

fn is_running(rig: &Rig, name: &str) -> bool {
    status(rig, name).is_some_and(|status| status["running_since"].is_string())
}

/// How the name stands, by the status.
fn lan(rig: &Rig, name: &str) -> Option<String> {
    Some(status(rig, name)?["lan"]["name"].as_str()?.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const A: u16 = 1;
const PTR: u16 = 12;
const HOST: &str = "xa-tan-bien.local";

#[test]
fn the_network_is_told_the_boxs_name_and_service() {
    let mut rig = one_box();
    let Some([one, two]) = network(&rig) else {
        return;
    };
    configure(&rig, XA, "");
    start(&mut rig, XA, &one);
    wait_for("the name is told", SOON, || {
        lan(&rig, XA).as_deref() == Some("on")
    });
    let address = hex(&[10, 9, 7, 1]);
    for how in ["legacy", "member"] {
        let answers = two.asks(HOST, A, how);
        assert_eq!(answers.len(), 1, "{how}: {answers:?}");
        assert_eq!(answers[0].0, one.address);
        assert!(answers[0].1.ends_with(&address), "{how}: {answers:?}");
    }
    let services = two.asks("_https._tcp.local", PTR, "member");
    assert_eq!(services.len(), 1, "{services:?}");
    for part in [
        b"\x0bxa-tan-bien".as_slice(),
        &[0x21, 0x20],
        b"path=/",
        &[10, 9, 7, 1],
    ] {
        assert!(services[0].1.contains(&hex(part)), "{part:?}: {services:?}");
    }
    assert!(two.asks("khac.local", A, "member").is_empty());

    // Its address changes while it runs.
    assert!(one.ip(&["addr", "add", "10.9.7.9/24", "dev", "v0"]));
    assert!(one.ip(&["addr", "del", "10.9.7.1/24", "dev", "v0"]));
    let moved = || {
        let answers = two.asks(HOST, A, "legacy");
        answers
            .iter()
            .any(|(_, what)| what.ends_with(&hex(&[10, 9, 7, 9])))
    };
    if !moved() {
        // With its first address the card has lost the second.
        assert!(one.ip(&["addr", "replace", "10.9.7.9/24", "dev", "v0"]));
    }
    wait_for("the new address is told", SOON, moved);
    wait_for("the certificate is for the new address", SOON, || {
        let mut command = tramd();
        let config = rig.boxes[XA].folder.join("tramd.toml");
        let output = command
            .args(["certificate", "--config"])
            .arg(config)
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).contains("10.9.7.9")
    });

    // Switched off, nobody is told.
    rig.kill_box(XA);
    configure(&rig, XA, "mdns = false");
    start(&mut rig, XA, &one);
    assert_eq!(lan(&rig, XA).as_deref(), Some("off"));
    for how in ["legacy", "member"] {
        assert!(two.asks(HOST, A, how).is_empty());
    }
}

#[test]
fn of_two_boxes_with_one_name_the_first_keeps_it_and_the_other_says_so() {
    let mut rig = one_box();
    let port = rig.port;
    rig.add_box(OTHER, "H53.13", port);
    let Some([one, two]) = network(&rig) else {
        return;
    };
    configure(&rig, XA, "");
    configure(&rig, OTHER, "name = \"xa-tan-bien\"");
    start(&mut rig, XA, &one);
    wait_for("the name is told", SOON, || {
        lan(&rig, XA).as_deref() == Some("on")
    });
    start(&mut rig, OTHER, &two);
    wait_for("the second sees it", SOON, || {
        lan(&rig, OTHER).as_deref() == Some("taken")
    });
    assert!(
        rig.log(OTHER)
            .contains("another machine in the network has the box's name")
    );
    assert_eq!(lan(&rig, XA).as_deref(), Some("on"));
    // Both at the same time: exactly one has it in the end.
    for name in [XA, OTHER] {
        rig.kill_box(name);
    }
    start(&mut rig, XA, &one);
    start(&mut rig, OTHER, &two);
    let states = || {
        let mut states = [XA, OTHER].map(|name| lan(&rig, name).unwrap());
        states.sort();
        states
    };
    wait_for("one has it, the other has not", SOON, || {
        states() == ["on", "taken"]
    });
}
