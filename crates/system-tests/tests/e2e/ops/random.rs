//! Pseudo-random numbers that are the same in every run and on every machine.

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(u64);

/// Characters that JSON, Go's JSON or a shell escape, multi-byte ones, and ordinary ones.
const ODD: [&str; 24] = [
    "a", "Z", "0", "-", ".", "_", "<", ">", "&", "'", "\"", "\\", "$", "%", " ", "\u{7f}", "é",
    "\u{2028}", "\u{2029}", "\u{fffd}", "\u{feff}", "😀", "\u{301}", "~",
];

/// Characters that not every name may contain.
const CONTROL: [&str; 9] =
    ["\n", "\r", "\t", "\u{8}", "\u{c}", "\u{1}", "\u{1b}", "\u{1f}", "\u{85}"];

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// Returns a number less than `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a number");
        usize::try_from(self.number() % end).expect("less than a usize")
    }

    pub(super) fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// Returns a value in every second case.
    pub(super) fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| value(self))
    }

    /// Returns up to `most` values.
    pub(super) fn some<T>(&mut self, most: usize, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| value(self)).collect()
    }

    /// Returns a part of a file name: not empty, without control characters.
    pub(super) fn name(&mut self) -> String {
        let rest = self.some(6, |random| random.pick(&ODD));
        format!("n{}", rest.concat())
    }

    /// Returns any text without zero bytes.
    pub(super) fn text(&mut self) -> String {
        let parts = self.some(8, |random| {
            if random.below(3) == 0 { random.pick(&CONTROL) } else { random.pick(&ODD) }
        });
        parts.concat()
    }

    pub(super) fn data(&mut self) -> Vec<u8> {
        self.some(20, |random| random.number() as u8)
    }
}
