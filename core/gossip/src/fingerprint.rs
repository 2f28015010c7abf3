//! Short names for contents: equal contents have equal fingerprints on every member, whatever it runs on. Not for secrets.

use core::hash::Hasher;

/// FNV-1a over 64 bits, and a finalizer that spreads each bit over all, so that fingerprints may also be combined by exclusive or.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of nothing.
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a field. Its length is a part of it, so that two fields never pass for two others.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.write(&(bytes.len() as u64).to_le_bytes());
        self.write(bytes);
        self
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let of = |fields: &[&str]| {
            let start = Fingerprint::new();
            fields
                .iter()
                .fold(start, |all, field| all.field(field.as_bytes()))
                .finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["", "a"]), of(&["a", ""]));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    }

    /// It goes over the wire: another value would make equal buffers look different.
    #[test]
    fn the_function_is_fixed() {
        assert_eq!(
            Fingerprint::new().field(b"dc1").finish(),
            16_646_030_839_794_820_317
        );
    }
}
