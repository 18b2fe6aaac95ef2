//! Invented people.

use super::dice::Dice;
use super::words;

pub struct Person {
    pub name: String,
    pub female: bool,
    /// `dd/MM/yyyy`.
    pub born: String,
    /// `yyyy-MM-dd`.
    pub born_iso: String,
    /// Citizen number: province, century and sex, year, six digits.
    pub number: String,
    pub phone: String,
}

impl Person {
    pub fn any(dice: &mut Dice) -> Person {
        Person::of_years(dice, 1946, 2004)
    }

    pub fn of_years(dice: &mut Dice, first: u32, last: u32) -> Person {
        let female = dice.chance(510);
        Person::of(dice, female, first, last)
    }

    pub fn of(dice: &mut Dice, female: bool, first: u32, last: u32) -> Person {
        let (middle, given) = if female {
            (
                words::MIDDLE_FEMALE.as_slice(),
                words::GIVEN_FEMALE.as_slice(),
            )
        } else {
            (words::MIDDLE_MALE.as_slice(), words::GIVEN_MALE.as_slice())
        };
        let (year, month, day) = (
            dice.between(first, last),
            dice.between(1, 12),
            dice.between(1, 28),
        );
        let century_and_sex = if year < 2000 { 0 } else { 2 } + u32::from(female);
        Person {
            name: format!(
                "{} {} {}",
                dice.pick(&words::FAMILY),
                dice.pick(middle),
                dice.pick(given)
            ),
            female,
            born: format!("{day:02}/{month:02}/{year}"),
            born_iso: format!("{year}-{month:02}-{day:02}"),
            number: format!(
                "{}{century_and_sex}{:02}{}",
                dice.pick(&words::BIRTH_PROVINCES),
                year % 100,
                dice.digits(6)
            ),
            phone: format!("{}{}", dice.pick(&words::PHONE_PREFIXES), dice.digits(7)),
        }
    }

    pub fn sex(&self) -> &'static str {
        if self.female { "nu" } else { "nam" }
    }
}
