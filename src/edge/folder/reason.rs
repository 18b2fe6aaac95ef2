//! The text beside a refused file: what is wrong and what to do, in Vietnamese, then in English.

/// Where in a file a fault lies, as far as it can be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Which record of the file, from 0.
    pub record: Option<usize>,
    /// JSON pointer within the record.
    pub pointer: Option<String>,
    /// Line or row, from 1.
    pub line: Option<u32>,
    /// Column, from 1: in characters, or of the table.
    pub column: Option<u32>,
}

/// One fault, in words that name the place too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub place: Place,
    pub vi: String,
    pub en: String,
}

/// The faults of one file.
#[derive(Debug, Default)]
pub struct Reason(Vec<Told>);

impl Reason {
    pub fn fault(&mut self, vietnamese: String, english: String) {
        self.fault_at(Place::default(), vietnamese, english);
    }

    pub fn fault_at(&mut self, place: Place, vietnamese: String, english: String) {
        self.0.push(Told {
            place,
            vi: safe(&vietnamese),
            en: safe(&english),
        });
    }

    pub fn into_faults(self) -> Vec<Told> {
        self.0
    }

    pub fn to_text(&self, headline: [&str; 2], hint: [&str; 2]) -> String {
        let part = |headline: &str, text: fn(&Told) -> &str, what: &str, hint: &str| {
            let faults = self.0.iter().map(|told| format!("- {}\n", text(told)));
            let faults: String = faults.collect();
            format!("{headline}\n{faults}{what}: {hint}\n")
        };
        let vietnamese = part(headline[0], |told| &told.vi, "Cách xử lý", hint[0]);
        let english = part(headline[1], |told| &told.en, "What to do", hint[1]);
        format!("{vietnamese}\n--- English ---\n{english}")
    }
}

/// A line that cannot break out of its line.
fn safe(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(clean).collect()
}
