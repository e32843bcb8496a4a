//! Finding zeros fast.

/// Bytes looked at in one step; a multiple of the widest vector of common processors.
const STEP_BYTES: usize = 64;

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut steps = bytes.chunks_exact(STEP_BYTES);
    // Or-ing a whole step lets the compiler use vectors; leaving after each step keeps data,
    // which almost always shows in the first one, cheap.
    steps.by_ref().all(|step| step.iter().fold(0, |any, byte| any | byte) == 0)
        && steps.remainder().iter().all(|&byte| byte == 0)
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
