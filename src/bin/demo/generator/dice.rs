//! A small generator of random numbers (SplitMix64) with the same numbers on every machine.

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `limit` - 1; 0 for a limit of 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        let scaled = ((self.roll() >> 32) * u64::from(limit)) >> 32;
        u32::try_from(scaled).expect("below a u32")
    }

    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most - least + 1)
    }

    /// True `per_mille` times of a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let length = u32::try_from(from.len()).expect("lists of words are short");
        &from[self.below(length) as usize]
    }

    /// 0.0 to 1.0, the latter excluded.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.below(1 << 30)) / f64::from(1u32 << 30)
    }

    pub fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from_digit(self.below(10), 10).expect("a digit"))
            .collect()
    }

    pub fn hex(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from_digit(self.below(16), 16).expect("a digit"))
            .collect()
    }
}
