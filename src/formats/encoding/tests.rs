//! Round trips in every encoding over text written by us, and what must not be guessed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const OLD: [Encoding; 5] = [
    Encoding::Tcvn3,
    Encoding::Vni,
    Encoding::Vps,
    Encoding::Viscii,
    Encoding::Windows1258,
];

const SENTENCES: [&str; 8] = [
    "Ủy ban nhân dân xã Tân Biên thông báo kết quả giải quyết thủ tục hành chính.",
    "Số hồ sơ;Họ và tên;Địa chỉ;Ngày tiếp nhận",
    "Ông Nguyễn Văn Ðược nộp đơn đề nghị cấp giấy chứng nhận quyền sử dụng đất.",
    "Trạm quan trắc nước thải báo giá trị vượt ngưỡng lúc nửa đêm",
    "Kỳ họp thứ mười, Hội đồng nhân dân huyện quyết nghị về dự toán ngân sách",
    "Bé khỏe mạnh, đã tiêm đủ mũi; hẹn tái khám vào tuần sau",
    "Đường thuỷ nội địa, bến phà, cầu cống và những công trình khác",
    "Mã hồ sơ 0001: chờ bổ sung giấy tờ tuỳ thân, lệ phí đã nộp",
];

/// What each sequence of one or two bytes means, turned round.
fn encoder(encoding: Encoding) -> BTreeMap<String, Vec<u8>> {
    let mut codes = BTreeMap::new();
    let mut learn = |bytes: &[u8]| {
        let read = translate(bytes, encoding);
        let text = nfc(read.text);
        if read.wrong.is_empty() && text.chars().count() == 1 {
            codes.entry(text).or_insert_with(|| bytes.to_vec());
        }
    };
    (0..=255).for_each(|byte| learn(&[byte]));
    for first in 0..=255 {
        (0x80..=255).for_each(|second| learn(&[first, second]));
    }
    codes
}

fn encode(text: &str, encoding: Encoding) -> Vec<u8> {
    let codes = encoder(encoding);
    nfc(text.to_owned())
        .chars()
        .flat_map(|letter| {
            let letter = letter.to_string();
            codes
                .get(&letter)
                .unwrap_or_else(|| panic!("{encoding} has no {letter}"))
                .clone()
        })
        .collect()
}

/// TCVN3 has no toned capitals, and no encoding knows the Icelandic letter that looks like `Đ`.
fn in_reach(text: &str, encoding: Encoding) -> String {
    let text = text.replace('Ð', "Đ");
    match encoding {
        Encoding::Tcvn3 => text
            .split_inclusive(' ')
            .map(|word| match word.starts_with(|c: char| "Ủ".contains(c)) {
                true => word.to_lowercase(),
                false => word.to_owned(),
            })
            .collect(),
        _ => text,
    }
}

#[test]
fn the_tables_know_every_vietnamese_letter() {
    let vowels = "aăâeêioôơuưy";
    let tones = ["", "\u{300}", "\u{301}", "\u{303}", "\u{309}", "\u{323}"];
    for encoding in OLD {
        let codes = encoder(encoding);
        for vowel in vowels.chars() {
            for tone in tones {
                let letter = nfc(format!("{vowel}{tone}"));
                assert!(codes.contains_key(&letter), "{encoding} {letter}");
                let capital = letter.to_uppercase();
                let is_known = codes.contains_key(&capital);
                assert!(
                    is_known || encoding == Encoding::Tcvn3,
                    "{encoding} {capital}"
                );
            }
        }
        for letter in ["đ", "Đ", "Ă", "Â", "Ê", "Ô", "Ơ", "Ư"] {
            assert!(codes.contains_key(letter), "{encoding} {letter}");
        }
    }
}

#[test]
fn known_words_of_each_encoding() {
    for (encoding, bytes, text) in [
        (
            Encoding::Tcvn3,
            &b"C\xe9ng h\xdfa x\xb7 h\xe9i ch\xf1 ngh\xdca"[..],
            "Cộng hòa xã hội chủ nghĩa",
        ),
        (Encoding::Tcvn3, b"NGUY\xd4N V\xa1N H\xb5", "NGUYỄN VĂN Hà"),
        (
            Encoding::Vni,
            b"Co\xe4ng ho\xf8a xa\xf5 ho\xe4i chu\xfb ngh\xf3a",
            "Cộng hòa xã hội chủ nghĩa",
        ),
        (Encoding::Vni, b"\xd1OA\xd8N", "ĐOÀN"),
        (Encoding::Vni, b"NGUYE\xc3N", "NGUYỄN"),
        (Encoding::Vps, b"\xf1\xb6c l\xc6p", "Độc lập"),
        (Encoding::Viscii, b"\xd0\xb5c l\xa7p", "Độc lập"),
        (
            Encoding::Windows1258,
            b"\xd0\xf4\xf2c l\xe2\xf2p",
            "Độc lập",
        ),
    ] {
        let read = decode(bytes, Some(encoding)).expect("readable");
        assert_eq!(read.text, text, "{encoding}");
        assert_eq!((read.encoding, read.how), (encoding, How::Given));
    }
}

#[test]
fn every_sentence_comes_back_in_every_encoding() {
    for encoding in OLD {
        for sentence in SENTENCES {
            let text = in_reach(sentence, encoding);
            let bytes = encode(&text, encoding);
            let read = decode(&bytes, Some(encoding)).expect("readable");
            assert_eq!(read.text, nfc(text.clone()), "{encoding}");
            assert_eq!((read.encoding, read.how), (encoding, How::Given));
        }
    }
}

#[test]
fn every_sentence_is_found_in_every_encoding() {
    for encoding in OLD {
        for sentence in SENTENCES {
            let text = in_reach(sentence, encoding);
            let bytes = encode(&text, encoding);
            let read = decode(&bytes, None)
                .unwrap_or_else(|faults| panic!("{encoding}: {text}: {faults}"));
            assert_eq!(read.text, nfc(text.clone()), "{encoding}");
            assert_eq!((read.encoding, read.how), (encoding, How::Detected));
        }
    }
}

#[test]
fn marks_and_utf_8_need_no_word_from_the_source() {
    let text = "Số hồ sơ";
    let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    for (bytes, encoding, how) in [
        (text.as_bytes().to_vec(), Encoding::Utf8, How::Utf8),
        (
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            Encoding::Utf8,
            How::Bom,
        ),
        (
            [b"\xff\xfe", &little[..]].concat(),
            Encoding::Utf16Le,
            How::Bom,
        ),
        (
            [b"\xfe\xff", &big[..]].concat(),
            Encoding::Utf16Be,
            How::Bom,
        ),
    ] {
        let read = decode(&bytes, None).expect("readable");
        assert_eq!(
            (read.text.as_str(), read.encoding, read.how),
            (text, encoding, how)
        );
    }
    let given = decode(&little, Some(Encoding::Utf16Le)).expect("readable");
    assert_eq!((given.text.as_str(), given.how), (text, How::Given));
    let apart = decode("Tie\u{302}\u{301}ng".as_bytes(), None).expect("readable");
    assert_eq!(apart.text, "Tiếng");
    // A source that was told TCVN3 and now writes UTF-8 is read as what it is, and says so.
    let moved = decode(text.as_bytes(), Some(Encoding::Tcvn3)).expect("readable");
    assert_eq!((moved.text.as_str(), moved.how), (text, How::Utf8));
}

#[test]
fn what_is_not_certain_is_not_guessed() {
    for bytes in [
        &b"caf\xe9 cr\xe8me \xe0 la carte"[..],
        b"M\xfcnchen, K\xf6ln, D\xfcsseldorf, Gr\xf6\xdfe",
        b"\xff\x00\x81",
        b"x\xb7",
        b"S\x001\x00",
        b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7",
    ] {
        let faults = decode(bytes, None).expect_err("not certain");
        let text = faults.to_string();
        assert!(text.contains("encoding"), "{text}");
    }
}

#[test]
fn a_byte_without_meaning_has_line_and_column() {
    let faults = decode(b"x\xb7\nh\xe9i \xff", Some(Encoding::Tcvn3)).expect_err("0xff");
    let fault = &faults.list()[0];
    assert_eq!((fault.line, fault.column), (2, 5));
    assert!(fault.message_vi.contains("0xff") && fault.message_vi.contains("tcvn3"));
    assert!(decode(b"a\xd8", Some(Encoding::Utf16Le)).is_err());
    assert!(decode(b"abc", Some(Encoding::Utf16Be)).is_err());
}

#[test]
fn cells_that_were_taken_for_western_text() {
    assert_eq!(
        recode("Sè hå s¬", Encoding::Tcvn3),
        Ok("Số hồ sơ".to_owned())
    );
    assert_eq!(
        recode("Soá hoà sô", Encoding::Vni),
        Ok("Số hồ sơ".to_owned())
    );
    assert_eq!(
        recode("Số hồ sơ", Encoding::Tcvn3),
        Ok("Số hồ sơ".to_owned())
    );
    assert_eq!(recode("plain", Encoding::Vni), Ok("plain".to_owned()));
    assert_eq!(recode("ab ÿ", Encoding::Tcvn3), Err(3));
}

#[test]
fn names() {
    for name in Encoding::PRINTED {
        let encoding: Encoding = name.parse().expect("a name");
        assert_eq!(encoding.as_str(), name);
    }
    assert_eq!("ABC".parse(), Ok(Encoding::Tcvn3));
    assert!("koi8-r".parse::<Encoding>().is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_text_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..9) {
        let given = Encoding::PRINTED.get(which).and_then(|name| name.parse().ok());
        match decode(&bytes, given) {
            Ok(read) => prop_assert!(is_nfc(&read.text)),
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
        let _ = recode(&String::from_utf8_lossy(&bytes), Encoding::Vni);
    }
}
