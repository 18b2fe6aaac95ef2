//! The encodings in which a byte is a letter, as data.

use std::sync::LazyLock;

use crate::formats::encoding::Encoding;

/// Stands in the tables below for a byte that has no meaning.
const NONE: char = '·';

/// TCVN 5712:1993, VN3. What lies below 0xA0 is the punctuation that Windows adds to the fonts.
const TCVN3: &str = "\
    €····…··········\
    ·‘’“”•–—·™······\
    \u{a0}ĂÂÊÔƠƯĐăâêôơưđ·\
    ·····àảãáạ·ằẳẵắ·\
    ······ặầẩẫấậè·ẻẽ\
    éẹềểễếệìỉ···ĩíịò\
    ·ỏõóọồổỗốộờởỡớợù\
    ·ủũúụừửữứựỳỷỹýỵ·\
";

const VPS: &str = "\
    ÀẢÃẤẦẨọỗĂếềểệẮẰẲ\
    Ế‘’ỀỂỄỐỒỔỖýỷỵỚỜỞ\
    \u{a0}ắằẳẵặỠớÙờởỡŨỨợỪ\
    ổỬỲỸÍÌộỈĨÓửữÒỎÕự\
    ầÁÂấẩẫậđẻÉÊẹỉễịỹ\
    ƯỦồốÔỏơÈừứÚũưÝẺ·\
    àáâãảạă·èéêẽìí·ĩ\
    ẴĐòóôõ·Ơụùúủ·ỶẼỳ\
";
const VPS_CONTROLS: [(u8, char); 14] = [
    (0x02, 'Ạ'),
    (0x03, 'Ậ'),
    (0x04, 'Ặ'),
    (0x05, 'Ẹ'),
    (0x06, 'Ệ'),
    (0x10, 'Ị'),
    (0x11, 'Ọ'),
    (0x12, 'Ộ'),
    (0x13, 'Ợ'),
    (0x14, 'Ụ'),
    (0x15, 'Ự'),
    (0x19, 'Ỵ'),
    (0x1c, 'Ẫ'),
    (0x1d, 'Ữ'),
];

/// RFC 1456.
const VISCII: &str = "\
    ẠẮẰẶẤẦẨẬẼẸẾỀỂỄỆỐ\
    ỒỔỖỘỢỚỜỞỊỎỌỈỦŨỤỲ\
    Õắằặấầẩậẽẹếềểễệố\
    ồổỗỠƠộờởịỰỨỪỬơớƯ\
    ÀÁÂÃẢĂẳẵÈÉÊẺÌÍĨỳ\
    ĐứÒÓÔạỷừửÙÚỹỵÝỡư\
    àáâãảăữẫèéêẻìíĩỉ\
    đựòóôõỏọụùúũủýợỮ\
";
const VISCII_CONTROLS: [(u8, char); 6] = [
    (0x02, 'Ẳ'),
    (0x05, 'Ẵ'),
    (0x06, 'Ẫ'),
    (0x14, 'Ỷ'),
    (0x19, 'Ỹ'),
    (0x1e, 'Ỵ'),
];

/// What each byte means.
pub struct Table {
    letters: [Option<char>; 256],
}

impl Table {
    fn new(upper_half: impl Iterator<Item = Option<char>>, controls: &[(u8, char)]) -> Table {
        let mut letters = [None; 256];
        for byte in 0..128u8 {
            letters[usize::from(byte)] = Some(char::from(byte));
        }
        for (place, letter) in letters[128..].iter_mut().zip(upper_half) {
            *place = letter;
        }
        for (byte, letter) in controls {
            letters[usize::from(*byte)] = Some(*letter);
        }
        Table { letters }
    }

    fn written(upper_half: &str, controls: &[(u8, char)]) -> Table {
        let letters = upper_half.chars();
        Table::new(
            letters.map(|letter| Some(letter).filter(|letter| *letter != NONE)),
            controls,
        )
    }

    /// The Encoding Standard gives control characters to bytes that have no letter.
    fn windows_1258() -> Table {
        let bytes: Vec<u8> = (0x80..=0xff).collect();
        let (text, _) = encoding_rs::WINDOWS_1258.decode_without_bom_handling(&bytes);
        let letters = text.chars();
        Table::new(
            letters.map(|letter| Some(letter).filter(|letter| !letter.is_control())),
            &[],
        )
    }

    pub fn letter(&self, byte: u8) -> Option<char> {
        self.letters[usize::from(byte)]
    }
}

/// The table of an encoding in which a byte is a letter.
pub fn of(encoding: Encoding) -> &'static Table {
    static TABLES: LazyLock<[Table; 4]> = LazyLock::new(|| {
        [
            Table::written(TCVN3, &[]),
            Table::written(VPS, &VPS_CONTROLS),
            Table::written(VISCII, &VISCII_CONTROLS),
            Table::windows_1258(),
        ]
    });
    match encoding {
        Encoding::Tcvn3 => &TABLES[0],
        Encoding::Vps => &TABLES[1],
        Encoding::Viscii => &TABLES[2],
        Encoding::Windows1258 => &TABLES[3],
        Encoding::Utf8 | Encoding::Utf16Le | Encoding::Utf16Be | Encoding::Vni => {
            unreachable!("not an encoding in which a byte is a letter")
        }
    }
}

/// TCVN3 has no capitals with tone marks: the fonts for capitals (`.VnTimeH`) show small ones as
/// capitals. So a small toned letter becomes a capital in a word whose other letters, two at
/// least, are all capitals: `NGUYễN`.
pub fn raise_capitals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(char::is_alphabetic) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match is_in_capitals(word) {
            true => out.extend(word.chars().flat_map(char::to_uppercase)),
            false => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_in_capitals(word: &str) -> bool {
    let mut capitals = 0;
    let mut toned = 0;
    for letter in word.chars() {
        match letter {
            'ă' | 'â' | 'ê' | 'ô' | 'ơ' | 'ư' | 'đ' => return false,
            letter if letter.is_ascii_lowercase() => return false,
            letter if letter.is_uppercase() => capitals += 1,
            _ => toned += 1,
        }
    }
    2 <= capitals && 0 < toned
}
