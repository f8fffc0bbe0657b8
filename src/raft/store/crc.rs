//! CRC-32, as of zlib (ISO 3309), one bit at a time: the records are short, and a table would be
//! longer than the code.

/// Goes on from `crc`, the value of what came before; zero at the start.
pub(super) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!crc, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// `bytes` with their checksum in front.
pub(super) fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = crc32(0, bytes).to_le_bytes().to_vec();
    sealed.extend_from_slice(bytes);
    sealed
}

/// The bytes of [`seal`], unless they have changed.
pub(super) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (crc, bytes) = sealed.split_first_chunk()?;
    (u32::from_le_bytes(*crc) == crc32(0, bytes)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32() {
        // The catalogue's check value: https://reveng.sourceforge.io/crc-catalogue/17plus.htm
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn any_flipped_bit_breaks_the_seal() {
        let sealed = seal(b"what must not change");
        assert_eq!(unseal(&sealed), Some(&b"what must not change"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&bad), None, "bit {bit}");
        }
        assert_eq!(unseal(b"abc"), None);
    }
}
