//! What loggers send: files, and the lines in which they are offered.

use std::sync::OnceLock;

use lienthong::edge::ftp::command;
use lienthong::edge::ftp::path::VirtualPath;
use lienthong::formats::station::mapping::StationMapping;
use lienthong::formats::station::parse;

/// The first line is the file's name, the rest its content.
pub fn station_file(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (name, content) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let Ok(file) = parse(name, content, mapping()) else {
        return;
    };
    let record: serde_json::Value = serde_json::from_str(&file.to_json()).expect("a record");
    assert_eq!(
        record["gia_tri"].as_array().map(Vec::len),
        Some(file.values.len())
    );
    let (strict_name, strict) = file.to_strict_file();
    let again = parse(&strict_name, &strict, mapping()).expect("the strict form is read");
    assert_eq!(again.values.len(), file.values.len());
    for (again, value) in again.values.iter().zip(&file.values) {
        assert_eq!(
            (&again.symbol, &again.value, again.time),
            (&value.symbol, &value.value, value.time)
        );
    }
    assert_eq!(again.measured_at, file.measured_at);
    let twice = again.to_strict_file();
    assert_eq!(twice, (strict_name, strict), "strict is strict");
}

fn mapping() -> &'static StationMapping {
    static MAPPING: OnceLock<StationMapping> = OnceLock::new();
    MAPPING.get_or_init(|| {
        toml::from_str(
            "[stations.TRAM01]\nprovince = \"TNI\"\nfacility = \"KCNA\"\nstation = \"NUO001\"\n[symbols]\nDO_PH = \"pH\"\n",
        )
        .expect("a mapping")
    })
}

/// Lines of a client; each parameter is a path too.
pub fn ftp_line(bytes: &[u8]) {
    let mut folder = VirtualPath::root();
    for line in bytes.split(|byte| *byte == b'\n') {
        let command = command::parse(line);
        assert_eq!(command, command::parse(line));
        let Ok(text) = std::str::from_utf8(line) else {
            assert!(command.is_none() || line.first().is_some_and(|byte| 0xf2 <= *byte));
            continue;
        };
        let parameter = text
            .split_once(' ')
            .map_or(text, |(_, parameter)| parameter);
        let Ok(path) = folder.join(parameter) else {
            continue;
        };
        let shown = path.to_string();
        assert!(shown.starts_with('/'));
        assert!(!shown.split('/').any(|name| name == ".." || name == "."));
        if !path.is_root() {
            let flat = path.to_flat();
            assert!(!flat.contains('/') && flat.len() <= 255);
            assert_eq!(VirtualPath::of_flat(&flat).as_ref(), Some(&path));
            assert!(path.name().is_some());
        }
        folder = path;
    }
}
