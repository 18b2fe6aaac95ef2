//! VNI for Windows: a letter, then a byte for its mark; some letters are one byte.

use crate::formats::encoding::Translated;

const GRAVE: char = '\u{300}';
const ACUTE: char = '\u{301}';
const CIRCUMFLEX: char = '\u{302}';
const TILDE: char = '\u{303}';
const BREVE: char = '\u{306}';
const HOOK: char = '\u{309}';
const DOT: char = '\u{323}';

/// Letters of one byte, in small; a capital's byte is 0x20 lower.
const SINGLE: [(u8, char); 9] = [
    (0xe6, 'ỉ'),
    (0xec, 'ì'),
    (0xed, 'í'),
    (0xee, 'ỵ'),
    (0xf1, 'đ'),
    (0xf2, 'ị'),
    (0xf3, 'ĩ'),
    (0xf4, 'ơ'),
    (0xf6, 'ư'),
];

/// Marks of the small letters, the letters that bear them, and what they mean. After a capital a
/// mark may stand 0x20 lower.
const MARKS: [(u8, &str, &[char]); 17] = [
    (0xf8, "aeouyơư", &[GRAVE]),
    (0xf9, "aeouyơư", &[ACUTE]),
    (0xfb, "aeouyơư", &[HOOK]),
    (0xf5, "aeouyơư", &[TILDE]),
    (0xef, "aeouơư", &[DOT]),
    (0xe2, "aeo", &[CIRCUMFLEX]),
    (0xe0, "aeo", &[CIRCUMFLEX, GRAVE]),
    (0xe1, "aeo", &[CIRCUMFLEX, ACUTE]),
    (0xe5, "aeo", &[CIRCUMFLEX, HOOK]),
    (0xe3, "aeo", &[CIRCUMFLEX, TILDE]),
    (0xe4, "aeo", &[CIRCUMFLEX, DOT]),
    (0xea, "a", &[BREVE]),
    (0xe8, "a", &[BREVE, GRAVE]),
    (0xe9, "a", &[BREVE, ACUTE]),
    (0xfa, "a", &[BREVE, HOOK]),
    (0xfc, "a", &[BREVE, TILDE]),
    (0xeb, "a", &[BREVE, DOT]),
];

/// Punctuation that Windows adds to the fonts below 0xA0.
const PUNCTUATION: [(u8, char); 10] = [
    (0x80, '€'),
    (0x85, '…'),
    (0x91, '‘'),
    (0x92, '’'),
    (0x93, '“'),
    (0x94, '”'),
    (0x95, '•'),
    (0x96, '–'),
    (0x97, '—'),
    (0x99, '™'),
];

pub fn translate(bytes: &[u8], out: &mut Translated) {
    // The letter before, which a mark may follow.
    let mut before = None;
    for &byte in bytes {
        if let Some(marks) = before.and_then(|before| marks(before, byte)) {
            out.text.extend(marks);
            before = None;
            continue;
        }
        match letter(byte) {
            Some(letter) => {
                out.text.push(letter);
                before = Some(letter);
            }
            None => {
                out.wrong(byte);
                before = None;
            }
        }
    }
}

fn marks(before: char, byte: u8) -> Option<&'static [char]> {
    let small = before.to_lowercase().next()?;
    MARKS
        .iter()
        .find(|(mark, bearers, _)| {
            let is_mark =
                byte == *mark || (before.is_uppercase() && byte.wrapping_add(0x20) == *mark);
            0xc0 <= byte && is_mark && bearers.contains(small)
        })
        .map(|(_, _, marks)| *marks)
}

fn letter(byte: u8) -> Option<char> {
    let among = |table: &[(u8, char)], byte: u8| {
        let found = table.iter().find(|(of, _)| *of == byte);
        found.map(|(_, letter)| *letter)
    };
    match byte {
        0..0x80 => Some(char::from(byte)),
        0x80..0xa0 => among(&PUNCTUATION, byte),
        // The signs of Latin-1 stand where they stand there.
        0xa0..0xc0 => Some(char::from(byte)),
        0xc0..0xe0 => among(&SINGLE, byte + 0x20).and_then(|small| small.to_uppercase().next()),
        0xe0.. => among(&SINGLE, byte),
    }
}
