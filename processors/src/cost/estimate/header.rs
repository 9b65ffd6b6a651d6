//! Width and height of an image, from the first bytes of its file.
//!
//! The files are in base64 and may be megabytes: single bytes are decoded, of which the formats need few. Any bytes
//! give a size or none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// In pixels; neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// How many segments of a JPEG file are looked at. Those before the size are metadata; a colour profile can take
/// several of 64 kB.
const MAX_SEGMENTS: usize = 256;

/// The size of the image that is `base64`; `None` if it is none of PNG, JPEG, GIF and WebP, the formats that vision
/// models take.
pub(super) fn size(base64: &[u8]) -> Option<Size> {
    let file = File(base64);
    let size = match &file.bytes::<4>(0)? {
        b"\x89PNG" => png(&file),
        b"GIF8" => Some([u32::from(file.little(6)?), u32::from(file.little(8)?)]),
        b"RIFF" => webp(&file),
        [0xff, 0xd8, ..] => jpeg(&file),
        _ => None,
    };
    size.filter(|[width, height]| *width > 0 && *height > 0).map(|[width, height]| Size { width, height })
}

/// The size is in the first chunk, `IHDR`.
fn png(file: &File<'_>) -> Option<[u32; 2]> {
    if file.bytes(4)? != *b"\r\n\x1a\n" || file.bytes(12)? != *b"IHDR" {
        return None;
    }
    Some([u32::from_be_bytes(file.bytes(16)?), u32::from_be_bytes(file.bytes(20)?)])
}

/// The size is in the first chunk, of which there are three kinds (RFC 9649).
fn webp(file: &File<'_>) -> Option<[u32; 2]> {
    if file.bytes(8)? != *b"WEBP" {
        return None;
    }
    match &file.bytes::<4>(12)? {
        b"VP8X" => {
            let side = |at| file.bytes(at).map(|[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]) + 1);
            Some([side(24)?, side(27)?])
        }
        b"VP8L" if file.bytes(20)? == [0x2f] => {
            let bits = u32::from_le_bytes(file.bytes(21)?);
            Some([(bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1])
        }
        b"VP8 " if file.bytes(23)? == [0x9d, 0x01, 0x2a] => {
            Some([u32::from(file.little(26)? & 0x3fff), u32::from(file.little(28)? & 0x3fff)])
        }
        _ => None,
    }
}

/// The size is in the frame's header, behind segments of metadata.
fn jpeg(file: &File<'_>) -> Option<[u32; 2]> {
    let mut at = 2;
    for _ in 0..MAX_SEGMENTS {
        let [mark, kind] = file.bytes(at)?;
        match (mark, kind) {
            // Fill bytes may stand before a marker.
            (0xff, 0xff) => at += 1,
            // The frame's header, of all kinds of compression; the three left out are tables.
            (0xff, 0xc0..=0xcf) if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                return Some([u32::from(file.big(at + 7)?), u32::from(file.big(at + 5)?)]);
            }
            // The scan begins: there was no header.
            (0xff, 0xd8..=0xda) => return None,
            (0xff, _) => at += 2 + usize::from(file.big(at + 2)?),
            _ => return None,
        }
    }
    None
}

/// A file in base64.
struct File<'a>(&'a [u8]);

impl File<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        // Four characters are three bytes.
        let start = at / 3 * 4;
        let (mut bytes, characters) = ([0; 3], self.0.get(start..start.checked_add(4)?)?);
        let decoded = STANDARD.decode_slice(characters, &mut bytes).ok()?;
        bytes.get(..decoded)?.get(at % 3).copied()
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(at + offset)?;
        }
        Some(bytes)
    }

    fn big(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    fn little(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }
}
