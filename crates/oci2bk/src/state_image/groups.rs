//! Divides items into the layers of an image.

/// The size from which a layer is full, in bytes, unless there would be too many.
const FULL: u64 = 32 << 20;
/// The most full layers of a kind of item. Images may have about 125 layers.
const MOST: u64 = 24;

/// Returns the numbers of items in each layer, for items of these sizes in the order of their age.
///
/// A layer is full at a power of two of bytes, so a root that grows keeps its first layers. A large item has a layer of
/// its own, so what is removed before it does not move what comes after it.
pub(super) fn groups(sizes: &[u64]) -> Vec<usize> {
    let total: u64 = sizes.iter().fold(0, |sum, size| sum.saturating_add(*size));
    let full = (total / MOST).checked_next_power_of_two().unwrap_or(u64::MAX).max(FULL);
    let mut groups = Vec::new();
    let (mut count, mut bytes) = (0, 0_u64);
    for size in sizes {
        if count > 0 && *size >= full {
            groups.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes = bytes.saturating_add(*size);
        if bytes >= full {
            groups.push(count);
            (count, bytes) = (0, 0);
        }
    }
    groups.extend((count > 0).then_some(count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_items_leave_the_first_layers_as_they_are() {
        let mut sizes = vec![10 << 20; 20];
        let before = groups(&sizes);
        sizes.push(5 << 20);
        let after = groups(&sizes);
        let last = before.len() - 1;
        assert_eq!(before[..last], after[..last]);
        assert_eq!(before, [4, 4, 4, 4, 4]);
        assert_eq!(after, [4, 4, 4, 4, 4, 1]);
    }

    #[test]
    fn a_large_item_is_alone_and_the_number_of_layers_is_bounded() {
        assert_eq!(groups(&[1, 1, 64 << 20, 1]), [2, 1, 1]);
        assert_eq!(groups(&[]), [] as [usize; 0]);
        let many = vec![1 << 30; 10_000];
        assert!(groups(&many).len() <= 24);
        let mixed: Vec<_> = (0..10_000).map(|n| if n % 2 == 0 { 1 << 34 } else { 1 }).collect();
        assert!(groups(&mixed).len() <= 2 * 24 + 1, "{}", groups(&mixed).len());
    }
}
