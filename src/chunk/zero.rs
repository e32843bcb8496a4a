//! Finding zeros fast.

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        None => true,
        // Every byte equals the one before it, and the first is zero. Comparing slices is the C
        // library's `memcmp`, which ends at the first difference.
        Some((first, rest)) => *first == 0 && rest == &bytes[..rest.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn one_set_bit_is_found_anywhere() {
        let mut bytes = vec![0; 1000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for index in 0..bytes.len() {
            bytes[index] = 1;
            assert!(!is_zero(&bytes), "byte {index}");
            bytes[index] = 0;
        }
    }
}
