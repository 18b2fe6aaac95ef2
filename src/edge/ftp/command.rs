//! One line of a client, understood.

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    User(String),
    Pass(String),
    Quit,
    AuthTls,
    Pbsz,
    /// Whether data connections are to be protected.
    Prot(bool),
    Syst,
    Feat,
    Opts,
    Noop,
    Help,
    Stat,
    /// TYPE, STRU and MODE with a value that we keep to anyway.
    Accepted,
    Pwd,
    Cwd(String),
    Cdup,
    Mkd(String),
    Rmd(String),
    Pasv,
    Epsv,
    /// Where the client listens, as four numbers and a port.
    Port([u8; 4], u16),
    List(String),
    Nlst(String),
    /// Listings for machines, of a folder and of one file (RFC 3659).
    Mlsd(String),
    Mlst(String),
    Size(String),
    Mdtm(String),
    Stor(String),
    Dele(String),
    Rnfr(String),
    Rnto(String),
    Allo(u64),
    Abor,
    /// Asked for at the beginning of a file: harmless.
    RestartAtZero,
    /// Known, and not offered here: why not.
    NotOffered(&'static str),
    /// Done by whoever else; the client needs no answer but yes.
    NotNeeded,
    /// Known, but its parameter is not usable.
    BadParameter,
    Unknown,
}

/// Reads a line without its end. `None` when it is not text.
pub fn parse(line: &[u8]) -> Option<Command> {
    // An interrupt of telnet may stand before ABOR (RFC 959, 4.1.3).
    let start = line.iter().position(|byte| !matches!(byte, 0xf2..=0xff));
    let line = std::str::from_utf8(&line[start.unwrap_or(line.len())..]).ok()?;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let verb = verb.to_ascii_uppercase();
    let text = |of: fn(String) -> Command| match rest.is_empty() {
        true => Command::BadParameter,
        false => of(rest.to_owned()),
    };
    let word = rest.trim().to_ascii_uppercase();
    let one_of = |known: &[&str]| match known.contains(&word.as_str()) {
        true => Command::Accepted,
        false => Command::BadParameter,
    };
    Some(match verb.as_str() {
        "USER" => text(Command::User),
        "PASS" => Command::Pass(rest.to_owned()),
        "ACCT" | "SITE" => Command::NotNeeded,
        "QUIT" => Command::Quit,
        "AUTH" if ["TLS", "TLS-C", "SSL"].contains(&word.as_str()) => Command::AuthTls,
        "PBSZ" => Command::Pbsz,
        "PROT" => match word.as_str() {
            "P" => Command::Prot(true),
            "C" => Command::Prot(false),
            _ => Command::BadParameter,
        },
        "SYST" => Command::Syst,
        "FEAT" => Command::Feat,
        "OPTS" => Command::Opts,
        "NOOP" => Command::Noop,
        "HELP" => Command::Help,
        "STAT" => Command::Stat,
        "TYPE" => one_of(&["I", "A", "A N", "L 8", "L8"]),
        "STRU" => one_of(&["F"]),
        "MODE" => one_of(&["S"]),
        "PWD" | "XPWD" => Command::Pwd,
        "CWD" | "XCWD" => text(Command::Cwd),
        "CDUP" | "XCUP" => Command::Cdup,
        "MKD" | "XMKD" => text(Command::Mkd),
        "RMD" | "XRMD" => text(Command::Rmd),
        "PASV" => Command::Pasv,
        "EPSV" => Command::Epsv,
        "PORT" => port(rest).unwrap_or(Command::BadParameter),
        "EPRT" => extended_port(rest).unwrap_or(Command::BadParameter),
        "LIST" => Command::List(folder_of(rest)),
        "NLST" => Command::Nlst(folder_of(rest)),
        "MLSD" => Command::Mlsd(rest.to_owned()),
        "MLST" => Command::Mlst(rest.to_owned()),
        "SIZE" => text(Command::Size),
        "MDTM" => text(Command::Mdtm),
        "STOR" => text(Command::Stor),
        "DELE" => text(Command::Dele),
        "RNFR" => text(Command::Rnfr),
        "RNTO" => text(Command::Rnto),
        "ALLO" => {
            let bytes = word.split(' ').next().and_then(|bytes| bytes.parse().ok());
            bytes.map_or(Command::BadParameter, Command::Allo)
        }
        "ABOR" => Command::Abor,
        "REST" if word == "0" => Command::RestartAtZero,
        "REST" => Command::NotOffered("Transfers cannot be resumed; send the file whole with STOR"),
        "APPE" => {
            Command::NotOffered("Files cannot be appended to; send each file whole with STOR")
        }
        "STOU" => Command::NotOffered("Name the file yourself with STOR"),
        "RETR" => Command::NotOffered("Files can be sent to this box, not fetched from it"),
        "CCC" => Command::NotOffered("The connection stays encrypted"),
        "AUTH" | "MFMT" | "SMNT" | "REIN" => Command::NotOffered("Not offered here"),
        _ => Command::Unknown,
    })
}

/// What a listing is asked of; options such as `-la` are how some clients spell nothing.
fn folder_of(rest: &str) -> String {
    let words = rest.split(' ').filter(|word| !word.is_empty());
    let folder: Vec<&str> = words.skip_while(|word| word.starts_with('-')).collect();
    folder.join(" ")
}

/// `h1,h2,h3,h4,p1,p2`.
fn port(text: &str) -> Option<Command> {
    let numbers: Option<Vec<u8>> = text
        .trim()
        .split(',')
        .map(|n| n.trim().parse().ok())
        .collect();
    let [a, b, c, d, high, low] = numbers?.try_into().ok()?;
    Some(Command::Port([a, b, c, d], u16::from_be_bytes([high, low])))
}

/// `|1|132.235.1.2|6275|` (RFC 2428), for IPv4.
fn extended_port(text: &str) -> Option<Command> {
    let text = text.trim();
    let mark = text.chars().next()?;
    let mut parts = text.trim_matches(mark).split(mark);
    let ("1", address, port) = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    Some(Command::Port(address.octets(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_understood_as_old_clients_write_them() {
        for (line, expected) in [
            (&b"user tram-1"[..], Command::User("tram-1".to_owned())),
            (b"PASS ", Command::Pass(String::new())),
            (b"PASS a b ", Command::Pass("a b ".to_owned())),
            (b"STOR a b.txt", Command::Stor("a b.txt".to_owned())),
            (b"STOR", Command::BadParameter),
            (b"LIST -la", Command::List(String::new())),
            (b"NLST -a x", Command::Nlst("x".to_owned())),
            (b"MLSD", Command::Mlsd(String::new())),
            (b"MLST a b", Command::Mlst("a b".to_owned())),
            (b"PORT 10,0,0,7,4,1", Command::Port([10, 0, 0, 7], 1025)),
            (b"PORT 10,0,0,7,4", Command::BadParameter),
            (
                b"EPRT |1|10.0.0.7|1025|",
                Command::Port([10, 0, 0, 7], 1025),
            ),
            (b"EPRT |2|::1|1025|", Command::BadParameter),
            (b"\xff\xf4\xf2ABOR", Command::Abor),
            (b"ALLO 120 R 1", Command::Allo(120)),
            (b"TYPE A N", Command::Accepted),
            (b"TYPE E", Command::BadParameter),
            (b"REST 0", Command::RestartAtZero),
            (b"XYZ", Command::Unknown),
        ] {
            assert_eq!(parse(line), Some(expected), "{}", line.escape_ascii());
        }
        assert_eq!(parse(b"STOR \xc3\x28"), None);
        assert!(matches!(parse(b"APPE a"), Some(Command::NotOffered(_))));
        assert!(matches!(parse(b"REST 10"), Some(Command::NotOffered(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn any_parameter_is_read(verb in "[A-Za-z]{3,4}", rest in "\\PC{0,60}") {
            let line = format!("{verb} {rest}");
            prop_assert!(parse(line.as_bytes()).is_some());
        }
    }
}
