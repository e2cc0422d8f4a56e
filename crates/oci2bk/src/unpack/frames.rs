//! Decodes zstd streams, frame by frame, with a limit on the total size of the windows of all streams.
//!
//! The header of a frame says how much decompressed data has to stay in memory, its window. BuildKit's
//! encoder uses 8 MiB, other tools up to 128 MiB, which many parallel layers must not have all at once.
//! Format: RFC 8878, 3.1.1.1.

use std::io::{self, BufRead, Read};
use std::sync::{Condvar, Mutex, PoisonError};

use zstd::stream::raw::{Decoder, Operation as _};

/// Maximum total size of the windows of all streams, in bytes. A larger window has to be the only one.
const WINDOWS: u64 = 48 << 20;
/// The largest window that the library supports. It rejects larger ones itself.
const LARGEST_WINDOW: u64 = 128 << 20;
/// The magic of a frame that is not skippable.
pub(super) const MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// Maximum length of a frame header.
const LONGEST_HEADER: u64 = 18;

static BUDGET: Budget = Budget { taken: Mutex::new(0), given_back: Condvar::new() };

/// The rest of [`WINDOWS`]. It is global, because memory belongs to the process.
struct Budget {
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// A part of the budget, returned on drop.
struct Share(u64);

impl Share {
    /// Waits until enough is left. The caller must not hold a share while waiting.
    fn take(bytes: u64) -> Self {
        let taken = BUDGET.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let too_much = |taken: &mut u64| *taken > 0 && *taken + bytes > WINDOWS;
        let waited = BUDGET.given_back.wait_while(taken, too_much);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
        Self(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *BUDGET.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        BUDGET.given_back.notify_all();
    }
}

/// The content of all frames of a blob.
pub(crate) struct Frames<R> {
    blob: R,
    decoder: Decoder<'static>,
    /// Bytes that were examined but not passed to the decoder yet.
    head: io::Cursor<Vec<u8>>,
    in_frame: bool,
    /// For the largest window so far, because the decoder keeps its memory.
    share: Share,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(blob: R) -> io::Result<Self> {
        let (decoder, head) = (Decoder::new()?, io::Cursor::default());
        Ok(Self { blob, decoder, head, in_frame: false, share: Share(0) })
    }

    /// Examines the header of the next frame; returns whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        // A frame may be so short that the next one is in the buffer too.
        let mut head = self.head.fill_buf()?.to_vec();
        let missing = LONGEST_HEADER.saturating_sub(head.len() as u64);
        (&mut self.blob).take(missing).read_to_end(&mut head)?;
        let window = window(&head).unwrap_or(0).min(LARGEST_WINDOW);
        if window > self.share.0 {
            // Its memory is freed before more is taken.
            self.decoder = Decoder::new()?;
            self.share = Share(0);
            self.share = Share::take(window);
        }
        self.in_frame = !head.is_empty();
        self.head = io::Cursor::new(head);
        Ok(self.in_frame)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() && (self.in_frame || self.begin()?) {
            let from_head = !self.head.fill_buf()?.is_empty();
            let input = if from_head { self.head.fill_buf()? } else { self.blob.fill_buf()? };
            let ended = input.is_empty();
            let status = self.decoder.run_on_buffers(input, buffer)?;
            if from_head {
                self.head.consume(status.bytes_read);
            } else {
                self.blob.consume(status.bytes_read);
            }
            self.in_frame = status.remaining > 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if ended && self.in_frame {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
        Ok(0)
    }
}

/// Returns the window that the frame with the header `head` needs; `None` if it is skippable, or not a frame.
fn window(head: &[u8]) -> Option<u64> {
    let (flags, fields) = head.strip_prefix(MAGIC)?.split_first()?;
    let is_single_segment = flags & 0x20 != 0;
    if !is_single_segment {
        let descriptor = u64::from(*fields.first()?);
        let base = 1 << (10 + (descriptor >> 3));
        return Some(base + base / 8 * (descriptor & 7));
    }
    // The window is the whole content.
    let dictionary_id = [0, 1, 2, 4][usize::from(flags & 3)];
    let (length, offset) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(flags >> 6)];
    let size = fields.get(dictionary_id..dictionary_id + length)?;
    let size = size.iter().rev().fold(0, |size: u64, byte| size << 8 | u64::from(*byte));
    Some(size.saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame of `bytes`, with or without the content size.
    fn frame(bytes: &[u8], window_log: u32, with_size: bool) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.set_pledged_src_size(with_size.then_some(bytes.len() as u64)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_window_is_read_from_the_header() {
        let bytes = vec![7; 300_000];
        assert_eq!(window(&frame(&bytes, 20, false)), Some(1 << 20));
        assert_eq!(window(&frame(&bytes, 27, false)), Some(128 << 20));
        // In a single segment, the window is the content.
        assert_eq!(window(&frame(&bytes, 24, true)), Some(300_000));
        assert_eq!(window(&frame(&bytes[..300], 24, true)), Some(300));
        assert_eq!(window(&frame(&bytes[..30], 24, true)), Some(30));
        assert_eq!(window(&[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0]), None);
        assert_eq!(window(MAGIC), None);
        assert_eq!(window(&[]), None);
    }

    #[test]
    fn frames_follow_each_other_however_the_blob_comes() {
        let parts = [vec![1; 70_000], vec![], vec![2; 3], (0..=255).collect::<Vec<u8>>()];
        let skippable: &[u8] = &[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9];
        let mut blob = Vec::new();
        for (part, window_log) in parts.iter().zip([10, 20, 24, 25]) {
            blob.extend(frame(part, window_log, window_log == 24));
            blob.extend(skippable);
        }
        for buffered in [1, 2, 7, 19, 1 << 16] {
            let blob = io::BufReader::with_capacity(buffered, blob.as_slice());
            let mut content = Vec::new();
            Frames::new(blob).unwrap().read_to_end(&mut content).unwrap();
            assert_eq!(content, parts.concat(), "{buffered}");
        }
    }

    #[test]
    fn many_large_windows_wait_for_each_other() {
        let blob = frame(&vec![3; 1 << 20], 25, false);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut frames = Frames::new(blob.as_slice()).unwrap();
                    let mut byte = [0];
                    frames.read_exact(&mut byte).unwrap();
                    assert!(*BUDGET.taken.lock().unwrap() <= WINDOWS);
                    assert_eq!(io::copy(&mut frames, &mut io::sink()).unwrap(), (1 << 20) - 1);
                });
            }
        });
    }
}
