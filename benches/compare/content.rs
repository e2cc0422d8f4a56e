//! The contents and sizes of the files of a generated cache: the same for the same parameters.
//!
//! Compressors and decompressors take very different times for text, machine code and compressed data, so
//! files are slices of a pool of each. The pools are larger than the windows of gzip and of zstd at its usual
//! level, so that a file rarely repeats an earlier one in the window.

use std::io::{self, Read};

/// Size of each pool, in bytes.
const POOL: usize = 16 << 20;
/// Maximum size of one slice of a pool in a file.
const SLICE: u64 = 256 << 10;

/// A stream of pseudo-random numbers (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`; slightly uneven, which does not matter here.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns a number below `limit`; small ones are likelier, like the common words of a language.
    const fn skewed(&mut self, limit: u64) -> u64 {
        let first = self.below(limit);
        let second = self.below(limit);
        first * second / limit * self.below(limit) / limit
    }
}

/// The pools from which files are cut.
#[derive(Debug)]
pub(crate) struct Pools {
    text: Vec<u8>,
    code: Vec<u8>,
    noise: Vec<u8>,
}

impl Pools {
    pub(crate) fn new() -> Self {
        Self { text: text(), code: code(), noise: noise() }
    }

    /// Returns the content of file `number`, of `length` bytes: of 20 files eleven are text, eight code and
    /// one is compressed data.
    pub(crate) fn file(&self, number: u64, length: u64) -> Content<'_> {
        let mut numbers = Numbers::new(number ^ 0xF11E);
        let pool = match numbers.below(20) {
            0..11 => &self.text,
            11..19 => &self.code,
            _ => &self.noise,
        };
        Content { pool, numbers, left: length, slice: &[] }
    }
}

/// Generates words, spaces and line ends.
fn text() -> Vec<u8> {
    let mut numbers = Numbers::new(1);
    let words: Vec<Vec<u8>> = (0..8192)
        .map(|_| {
            let length = 2 + numbers.below(9);
            (0..length)
                .map(|_| b"etaoinshrdlucmfwypvbgkjqxz"[numbers.skewed(26) as usize])
                .collect()
        })
        .collect();
    let mut pool = Vec::with_capacity(POOL + 512);
    while pool.len() < POOL {
        pool.extend_from_slice(&words[numbers.skewed(8192) as usize]);
        pool.push(if numbers.below(12) == 0 { b'\n' } else { b' ' });
        if numbers.below(16) == 0 {
            repeat(&mut pool, &mut numbers);
        }
    }
    pool.truncate(POOL);
    pool
}

/// Generates short repeated sequences, and operands that do not repeat.
fn code() -> Vec<u8> {
    let mut numbers = Numbers::new(2);
    let instructions: Vec<Vec<u8>> = (0..4096)
        .map(|_| (0..2 + numbers.below(7)).map(|_| numbers.next() as u8).collect())
        .collect();
    let mut pool = Vec::with_capacity(POOL + 512);
    while pool.len() < POOL {
        pool.extend_from_slice(&instructions[numbers.skewed(4096) as usize]);
        if numbers.below(4) == 0 {
            pool.extend_from_slice(&(numbers.skewed(1 << 16) as u32).to_le_bytes());
        }
        if numbers.below(24) == 0 {
            repeat(&mut pool, &mut numbers);
        }
    }
    pool.truncate(POOL);
    pool
}

/// Repeats a part less than 16 KiB back, as source code and documents do.
fn repeat(pool: &mut Vec<u8>, numbers: &mut Numbers) {
    let length = 16 + numbers.skewed(240) as usize;
    if let Some(latest) = pool.len().checked_sub(length) {
        let start = latest - latest.min(numbers.below(16 << 10) as usize);
        pool.extend_from_within(start..start + length);
    }
}

fn noise() -> Vec<u8> {
    let mut numbers = Numbers::new(3);
    (0..POOL / 8).flat_map(|_| numbers.next().to_le_bytes()).collect()
}

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct Content<'p> {
    pool: &'p [u8],
    numbers: Numbers,
    left: u64,
    slice: &'p [u8],
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.slice.is_empty() {
            let length = self.left.min(SLICE) as usize;
            let start = self.numbers.below((POOL - length) as u64) as usize;
            self.slice = &self.pool[start..start + length];
            self.left -= length as u64;
        }
        self.slice.read(buffer)
    }
}

/// Returns the sizes of `count` files with `total` bytes together.
///
/// Many are small and few are large, as in any distribution: each doubling of the size halves the
/// number of files, over twelve doublings, so half of the files have a seventh of the mean or less.
pub(crate) fn sizes(count: u64, total: u64, seed: u64) -> Vec<u64> {
    let mut numbers = Numbers::new(seed);
    let weights: Vec<u64> = (0..count)
        .map(|_| {
            let octave = numbers.next().trailing_zeros().min(12);
            (256 + numbers.below(256)) << octave
        })
        .collect();
    share(total, &weights)
}

/// Divides `total` in proportion to `weights`.
pub(crate) fn share(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let mut given = 0;
    let mut seen = 0;
    let shares = weights.iter().map(|weight| {
        seen += u128::from(*weight);
        // Each end is rounded down to the next beginning, so that nothing is lost.
        let end = (u128::from(total) * seen / sum) as u64;
        let share = end - given;
        given = end;
        share
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_size_asked_for_and_always_the_same_bytes() {
        let pools = Pools::new();
        for (number, length) in [(1, 0), (2, 1), (3, 5000), (4, 3 * SLICE + 17)] {
            let read = || {
                let mut bytes = Vec::new();
                pools.file(number, length).read_to_end(&mut bytes).unwrap();
                bytes
            };
            assert_eq!(read().len() as u64, length);
            assert_eq!(read(), read());
        }
    }

    #[test]
    fn nothing_is_lost_when_sizes_are_shared_out() {
        for count in [1, 12, 1000] {
            let sizes = sizes(count, 1_000_003, 7);
            assert_eq!(sizes.len() as u64, count);
            assert_eq!(sizes.iter().sum::<u64>(), 1_000_003);
        }
        assert_eq!(share(10, &[1, 1, 1]), [3, 3, 4]);
    }

    #[test]
    fn pools_compress_about_as_well_as_the_files_of_a_distribution() {
        use std::io::Write as _;
        let pools = Pools::new();
        let ratio = |pool: &[u8]| {
            let mut gzip =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(&pool[..1 << 20]).unwrap();
            f64::from(1 << 20) / gzip.finish().unwrap().len() as f64
        };
        let (text, code, noise) = (ratio(&pools.text), ratio(&pools.code), ratio(&pools.noise));
        assert!((2.5..5.0).contains(&text), "{text}");
        assert!((1.5..3.5).contains(&code), "{code}");
        assert!(noise < 1.01, "{noise}");
    }
}
