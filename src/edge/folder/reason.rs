//! The text beside a refused file: what is wrong and what to do, in Vietnamese, then in English.

/// The faults of one file.
#[derive(Debug, Default)]
pub struct Reason {
    vietnamese: Vec<String>,
    english: Vec<String>,
}

impl Reason {
    pub fn fault(&mut self, vietnamese: String, english: String) {
        self.vietnamese.push(safe(&vietnamese));
        self.english.push(safe(&english));
    }

    /// Each fault in Vietnamese and in English.
    pub fn pairs(&self) -> Vec<[String; 2]> {
        let both = self.vietnamese.iter().zip(&self.english);
        both.map(|(vi, en)| [vi.clone(), en.clone()]).collect()
    }

    pub fn to_text(&self, headline: [&str; 2], hint: [&str; 2]) -> String {
        let part = |headline: &str, faults: &[String], what: &str, hint: &str| {
            let faults: String = faults.iter().map(|fault| format!("- {fault}\n")).collect();
            format!("{headline}\n{faults}{what}: {hint}\n")
        };
        let vietnamese = part(headline[0], &self.vietnamese, "Cách xử lý", hint[0]);
        let english = part(headline[1], &self.english, "What to do", hint[1]);
        format!("{vietnamese}\n--- English ---\n{english}")
    }
}

/// A line that cannot break out of its line.
fn safe(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(clean).collect()
}
