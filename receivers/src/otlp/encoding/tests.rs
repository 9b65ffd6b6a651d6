use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;
use weir_pipeline::budget::Budget;
use weir_pipeline::node::Outlet;

use super::*;

const MAX: usize = 1 << 20;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_streamed(data: &[u8]) -> Vec<u8> {
    // Without a pledged size the frame header does not tell it.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_bulk(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}

fn snappy(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

fn snappy_framed(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    // An empty stream has its header too.
    let out = encoder.into_inner().unwrap();
    if out.is_empty() { SNAPPY_STREAM.to_vec() } else { out }
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn decode(encoding: Encoding, input: &[u8], budget: usize) -> (Result<Bytes, Refusal>, usize) {
    let budget = Budget::new(budget);
    let mut hold = Hold::new(&Outlet::new(Vec::new(), vec![budget.clone()]));
    let result = encoding.decode(Bytes::copy_from_slice(input), MAX, &mut hold);
    (result, budget.used())
}

type Compress = fn(&[u8]) -> Vec<u8>;
const ALL: [(Encoding, Compress); 10] = [
    (Encoding::Gzip, gzip),
    (Encoding::Deflate, zlib),
    (Encoding::Deflate, raw_deflate),
    (Encoding::Zstd, zstd_bulk),
    (Encoding::Zstd, zstd_streamed),
    (Encoding::Zlib, zlib),
    (Encoding::Lz4, lz4),
    (Encoding::SnappyFramed, snappy_framed),
    (Encoding::Snappy, snappy_framed),
    (Encoding::Snappy, snappy),
];

fn samples() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    vec![vec![], vec![7], b"hello".repeat(20_000), noise, vec![0; MAX]]
}

#[test]
fn what_was_compressed_comes_back() {
    for (encoding, compress) in ALL {
        for sample in samples() {
            let (out, used) = decode(encoding, &compress(&sample), usize::MAX);
            assert_eq!(out.as_deref(), Ok(&sample[..]), "{encoding:?}");
            assert!(used >= sample.len() && used <= MAX.max(MIN_OUTPUT), "{encoding:?}: {used} bytes held");
        }
    }
}

#[test]
fn concatenated_members_are_joined() {
    let (a, b) = (b"first".repeat(5), b"other".repeat(5));
    for (encoding, compress) in [ALL[0], ALL[3], ALL[4], ALL[6], ALL[7]] {
        // Equal and unequal sizes, identical members, an empty one at either end.
        for parts in [vec![&a[..], &b], vec![&a, &a], vec![&a, &a, &a], vec![&a, b"x"], vec![b"", &a], vec![&a, b""]] {
            let input: Vec<u8> = parts.iter().flat_map(|p| compress(p)).collect();
            assert_eq!(decode(encoding, &input, usize::MAX).0.as_deref(), Ok(&parts.concat()[..]), "{encoding:?}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = vec![0; 16 << 20];
    for (encoding, compress) in ALL {
        let (out, used) = decode(encoding, &compress(&bomb), usize::MAX);
        assert_eq!(out, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
        assert!(used <= MAX, "{encoding:?} took {used} bytes");
    }
    // One byte over is over; and members that are small each but not together.
    for (encoding, compress) in ALL {
        let (out, _) = decode(encoding, &compress(&bomb[..MAX + 1]), usize::MAX);
        assert_eq!(out, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
    }
    for (encoding, compress) in [ALL[0], ALL[3]] {
        let members = compress(&bomb[..MAX / 2]).repeat(3);
        assert_eq!(decode(encoding, &members, usize::MAX).0, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
    }
}

#[test]
fn the_memory_is_taken_before_it_is_used() {
    let sample = vec![1; MAX / 2];
    for (encoding, compress) in ALL {
        let (out, used) = decode(encoding, &compress(&sample), 100);
        assert!(matches!(out, Err(Refusal::Unfit { most: 200 })), "{encoding:?}: {out:?}");
        assert!(used <= 200, "{encoding:?}");
    }
}

#[test]
fn a_guess_of_the_size_refuses_nothing_that_fits() {
    let sample = vec![1; MAX / 2];
    for (encoding, compress) in ALL {
        // Room for what comes out and nothing more, which a request that is alone has twice the budget for.
        let (out, used) = decode(encoding, &compress(&sample), MAX / 4 + 1);
        assert_eq!(out.unwrap(), sample, "{encoding:?}");
        assert!(used <= MAX / 2 + 2, "{encoding:?}");
    }
}

#[test]
fn broken_input_is_malformed() {
    let sample = b"some spans".repeat(100);
    for (encoding, compress) in ALL {
        let whole = compress(&sample);
        for cut in 0..whole.len() {
            let out = decode(encoding, &whole[..cut], usize::MAX).0;
            // Nothing at all is an empty stream to zstd, and a header without chunks one to snappy.
            let is_empty = encoding == Encoding::Zstd && cut == 0 || whole[..cut] == *SNAPPY_STREAM;
            assert!(
                matches!(out, Err(Refusal::Malformed { .. })) || is_empty && out.as_deref() == Ok(&[]),
                "{encoding:?} cut at {cut}: {out:?}"
            );
        }
    }
    // Gzip, zlib and framed snappy carry checksums: a flipped bit is noticed, unless it is in a part that means nothing.
    for (encoding, compress) in [ALL[0], ALL[1], ALL[7]] {
        let whole = compress(&sample);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let out = decode(encoding, &flipped, usize::MAX).0;
            assert!(!out.is_ok_and(|out| out != sample), "{encoding:?} flipped at {at}");
        }
    }
    // A trailer that lies about the size, and bytes after the end.
    let mut lying = gzip(&sample);
    let end = lying.len();
    lying[end - 4..].copy_from_slice(&77u32.to_le_bytes());
    assert!(matches!(decode(Encoding::Gzip, &lying, usize::MAX).0, Err(Refusal::Malformed { .. })));
    let mut longer = gzip(&sample);
    longer.extend_from_slice(b"garbage");
    assert!(matches!(decode(Encoding::Gzip, &longer, usize::MAX).0, Err(Refusal::Malformed { .. })));
}

#[test]
fn header_values() {
    let all = Encodings::named(["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"]).unwrap();
    let parse = |text: &'static str| Encoding::parse(Some(&HeaderValue::from_static(text)), all);
    assert_eq!(Encoding::parse(None, all), Ok(Encoding::Identity));
    for (text, want) in [
        ("", Encoding::Identity),
        ("identity", Encoding::Identity),
        ("GZip", Encoding::Gzip),
        (" x-gzip ", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
        ("deflate", Encoding::Deflate),
        ("zlib", Encoding::Zlib),
        ("snappy", Encoding::Snappy),
        ("x-snappy-framed", Encoding::SnappyFramed),
        ("LZ4", Encoding::Lz4),
    ] {
        assert_eq!(parse(text), Ok(want), "{text}");
    }
    for text in ["br", "gzip, gzip"] {
        assert_eq!(parse(text), Err(Refusal::Encoding { name: text.to_owned(), accepted: all }));
    }
}

#[test]
fn only_what_is_accepted_is_taken() {
    let accepted = Encodings::named(["zstd", "lz4"]).unwrap();
    assert_eq!(accepted.to_string(), "zstd, lz4");
    assert_eq!(Encodings::HTTP.to_string(), "gzip, zstd, zlib, snappy, deflate, identity");
    assert_eq!(Encodings::named(["gzip", "br"]), Err(1));
    let lz4 = HeaderValue::from_static("lz4");
    assert_eq!(Encoding::parse(Some(&lz4), accepted), Ok(Encoding::Lz4));
    let refused = |name: &str| Err(Refusal::Encoding { name: name.to_owned(), accepted });
    assert_eq!(Encoding::parse(None, accepted), refused("identity"));
    assert_eq!(Encoding::parse(Some(&HeaderValue::from_static("gzip")), accepted), refused("gzip"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_breaks_a_decoder(
        encoding in prop::sample::select(Encoding::ALL.to_vec()),
        input in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let (out, used) = decode(encoding, &input, usize::MAX);
        prop_assert!(used <= MAX);
        if let Ok(out) = out {
            prop_assert!(encoding == Encoding::Identity || out.len() <= used, "{} bytes, {used} taken", out.len());
        }
    }

    #[test]
    fn nor_does_damage(
        (encoding, compress) in prop::sample::select(ALL.to_vec()),
        repeated in prop::collection::vec(any::<u8>(), 1..40),
        count in 1usize..2_000,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let sample = repeated.repeat(count);
        let mut input = compress(&sample);
        for (at, value) in &damage {
            let at = at.index(input.len());
            input[at] = *value;
        }
        let (out, used) = decode(encoding, &input, usize::MAX);
        prop_assert!(used <= MAX);
        if damage.is_empty() {
            prop_assert_eq!(out.as_deref(), Ok(&sample[..]));
        } else if let Ok(out) = out {
            prop_assert!(out.len() <= MAX);
        }
    }
}
