//! Random changes of an answer in XML or JSON.

/// xorshift64: the same numbers in each run.
pub struct Random(pub u64);

impl Random {
    /// Less than `n`; 0 where there is nothing less.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    /// `good`, changed in one to four places.
    pub fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        const PIECES: [&str; 12] = [
            "<item>",
            "</item>",
            "<![CDATA[",
            "]]>",
            "<!--",
            "&#0;",
            "&lt;",
            "&unknown;",
            "<a b=\"",
            "\u{feff}",
            "<?",
            "\0",
        ];
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let (from, to) = (self.below(bytes.len()), self.below(bytes.len()));
            let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 200));
            match self.below(8) {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(from..to)),
                2 => bytes.extend_from_within(from..to),
                3 => drop(bytes.splice(from..from, PIECES[self.below(PIECES.len())].bytes())),
                4 => drop(bytes.splice(from..to, "<x>".repeat(self.below(2000)).bytes())),
                5 => drop(bytes.splice(from..from, "9".repeat(self.below(400)).bytes())),
                _ => {
                    if let Some(byte) = bytes.get_mut(from) {
                        *byte = u8::try_from(self.below(256)).unwrap();
                    }
                }
            }
        }
        bytes
    }
}
