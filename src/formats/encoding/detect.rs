//! Finds the encoding of Vietnamese text: the only one whose letters make Vietnamese syllables.
//!
//! The five older encodings give the same bytes to different letters, and few wrong readings spell
//! a syllable: an onset, a rhyme and one tone that the rhyme's ending allows. Where two readings
//! are plausible, or none is, nothing is said.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

use crate::formats::encoding::{Encoding, nfc, translate};

const CANDIDATES: [Encoding; 5] = [
    Encoding::Tcvn3,
    Encoding::Vni,
    Encoding::Vps,
    Encoding::Viscii,
    Encoding::Windows1258,
];
/// Different syllables with Vietnamese letters that must be there.
const WORDS_MIN: usize = 3;
/// Share of different words with Vietnamese letters that must be syllables, percent.
const SYLLABLES_MIN: usize = 85;

/// The encoding, and the text in NFC.
pub fn detect(bytes: &[u8]) -> Option<(Encoding, String)> {
    if bytes.contains(&0) {
        return None;
    }
    let mut readings: Vec<Reading> = CANDIDATES
        .into_iter()
        .filter_map(|encoding| Reading::of(bytes, encoding))
        .collect();
    readings.sort_by_key(|reading| reading.misspelt);
    let mut readings = readings.into_iter();
    let best = readings.next()?;
    // Another reading must be clearly worse, unless it says the same.
    let is_alone =
        readings.all(|other| 2 * best.misspelt < other.misspelt || other.text == best.text);
    (is_alone && best.is_vietnamese()).then_some((best.encoding, best.text))
}

/// What one encoding makes of the bytes.
struct Reading {
    encoding: Encoding,
    text: String,
    /// Words with letters beyond ASCII that are syllables, each once.
    syllables: usize,
    /// And those that are not.
    misspelt: usize,
}

impl Reading {
    fn of(bytes: &[u8], encoding: Encoding) -> Option<Reading> {
        let read = translate(bytes, encoding);
        let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n' | '\u{c}');
        if !read.wrong.is_empty() || read.text.contains(is_control) {
            return None;
        }
        let text = nfc(read.text);
        let words: BTreeSet<&str> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_ascii() && has_vowel(word))
            .collect();
        let syllables = words.iter().filter(|word| is_syllable(word)).count();
        let misspelt = words.len() - syllables;
        Some(Reading {
            encoding,
            text,
            syllables,
            misspelt,
        })
    }

    fn is_vietnamese(&self) -> bool {
        let words = self.syllables + self.misspelt;
        WORDS_MIN <= self.syllables && words * SYLLABLES_MIN <= self.syllables * 100
    }
}

/// Abbreviations such as `QĐ` have none.
fn has_vowel(word: &str) -> bool {
    word.nfd()
        .any(|c| matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u' | 'y'))
}

/// Whether `word` can be a Vietnamese syllable.
fn is_syllable(word: &str) -> bool {
    let mut tone = None;
    let mut letters = String::new();
    for c in word.to_lowercase().nfd() {
        match c {
            '\u{300}' | '\u{301}' | '\u{303}' | '\u{309}' | '\u{323}' => {
                if tone.replace(c).is_some() {
                    return false;
                }
            }
            c => letters.push(c),
        }
    }
    let letters: String = letters.nfc().collect();
    let is_stopped = letters.ends_with(['c', 'p', 't']) || letters.ends_with("ch");
    if is_stopped && !matches!(tone, Some('\u{301}' | '\u{323}')) {
        return false;
    }
    ONSETS.iter().any(|onset| {
        letters
            .strip_prefix(onset)
            .is_some_and(|rhyme| RHYMES.contains(rhyme))
    })
}

const ONSETS: [&str; 29] = [
    "", "b", "c", "ch", "d", "đ", "g", "gh", "gi", "h", "k", "kh", "l", "m", "n", "ng", "ngh",
    "nh", "p", "ph", "qu", "r", "s", "t", "th", "tr", "v", "x", "z",
];

static RHYMES: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    "a ac ach ai am an ang anh ao ap at au ay ăc ăm ăn ăng ăp ăt âc âm ân âng âp ât âu ây \
     e ec em en eng eo ep et ê êch êm ên êng ênh êp êt êu êc \
     i ia ich iêc iêm iên iêng iêp iêt iêu im in inh ip it iu \
     o oa oac oach oai oam oan oang oanh oao oap oat oay oăc oăm oăn oăng oăt oc oe oen oeo oet \
     oi om on ong oong ooc op ot ô ôc ôi ôm ôn ông ôông ôp ôt ơ ơi ơm ơn ơp ơt \
     u ua uân uâng uât uây uc ui uê uêch uên uênh um un ung uôc uôi uôm uôn uông uôp uôt uơ up ut \
     uy uya uych uyên uyêt uynh uyt uyu uyp ư ưa ưc ưi ưm ưn ưng ươc ươi ươm ươn ương ươp ươt \
     ươu ưt ưu y yê yêm yên yêng yêt yêu ynh yt ych"
        .split_whitespace()
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables() {
        for good in [
            "Nguyễn", "nghiêng", "quyết", "giữa", "gì", "ủy", "uỷ", "ươn", "xoắn", "Thuở", "quỳnh",
            "hộp", "khuếch", "quốc", "xã", "Được",
        ] {
            assert!(is_syllable(good), "{good}");
        }
        for bad in [
            "aự", "hò̀", "xýn", "béch", "Ngýời", "c¸n", "ãn̉g", "hơp", "èo̧",
        ] {
            assert!(!is_syllable(bad), "{bad}");
        }
    }
}
