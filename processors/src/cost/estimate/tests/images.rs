use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::cost::estimate::header::{Size, size};
use crate::cost::estimate::images::{Image, Rule};

#[path = "../../../../../tests/support/corpus.rs"]
mod corpus;

// === The size, from the file ===

/// The first bytes of a PNG file.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend([8, 6, 0, 0, 0]);
    file
}

/// The first bytes of a JPEG file, with so many segments of 64 kB before the frame's header.
fn jpeg(width: u16, height: u16, segments: usize) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    for _ in 0..segments {
        file.extend([0xff, 0xe2, 0xff, 0xff]);
        file.extend([0xff; 0xfffd]);
    }
    // A table, a fill byte, and a progressive frame.
    file.extend([0xff, 0xc4, 0, 3, 0, 0xff, 0xff, 0xc2, 0, 17, 8]);
    file.extend(height.to_be_bytes());
    file.extend(width.to_be_bytes());
    file.extend([3, 1, 0x22]);
    file
}

fn webp(kind: &[u8; 4], rest: &[u8]) -> Vec<u8> {
    [b"RIFF\0\0\0\0WEBP", &kind[..], &[0; 4], rest].concat()
}

fn size_of(file: &[u8]) -> Option<[u32; 2]> {
    let found = size(STANDARD.encode(file).as_bytes());
    found.map(|Size { width, height }| [width, height])
}

#[test]
fn sizes_are_in_the_first_bytes_of_a_file() {
    assert_eq!(size_of(&png(1_024, 70_000)), Some([1_024, 70_000]));
    assert_eq!(size_of(&jpeg(800, 400, 0)), Some([800, 400]));
    assert_eq!(size_of(&jpeg(800, 400, 3)), Some([800, 400]));
    assert_eq!(size_of(b"GIF89a\x20\x03\x90\x01\xf0\0\0"), Some([800, 400]));
    // Sides less one, in 24 bits.
    let extended = [0, 0, 0, 0, 0x1f, 0x03, 0, 0x8f, 0x01, 0, 0, 0];
    assert_eq!(size_of(&webp(b"VP8X", &extended)), Some([800, 400]));
    // Sides less one, in 14 bits each: 799 | 399 << 14 = 0x0063c31f.
    assert_eq!(size_of(&webp(b"VP8L", &[0x2f, 0x1f, 0xc3, 0x63, 0, 0, 0])), Some([800, 400]));
    // A frame's tag, its mark, and the sides with two bits of scale.
    let lossy = [0, 0, 0, 0x9d, 0x01, 0x2a, 0x20, 0x43, 0x90, 0x81, 0];
    assert_eq!(size_of(&webp(b"VP8 ", &lossy)), Some([800, 400]));
}

#[test]
fn what_is_no_image_has_no_size() {
    for file in [
        &b""[..],
        b"Please set a user-agent and respect our robot policy",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>",
        &png(0, 8),
        &png(8, 8)[..20],
        &jpeg(8, 8, 0)[..12],
        // The scan, where the frame's header should have been.
        &[0xff, 0xd8, 0xff, 0xda, 0, 8, 0, 0, 0],
        &webp(b"ALPH", &[0; 16]),
        b"\x89PNG and so on and so forth, but not a chunk",
    ] {
        assert_eq!(size_of(file), None, "{file:?}");
    }
    // Base64 that is none, or none of the usual alphabet.
    assert_eq!(size(b"iVBORw0KGgoAAAANSUhEUgAA*"), None);
    assert_eq!(size(b"_9j_4AAQSkZJRgABAQAAAQAB"), None);
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(start in 0usize..8, rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let starts: [&[u8]; 8] = [
            b"", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8L",
            b"RIFF\0\0\0\0WEBPVP8 ", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10",
        ];
        let _ = size(&rest);
        let base64 = STANDARD.encode([starts[start], &rest].concat());
        let url = format!("data:;base64,{base64}");
        let image = Image::of(&json!({ "image_url": { "url": url, "detail": "high" } })).unwrap();
        if size(base64.as_bytes()).is_some() {
            for model in ["gpt-4o", "gpt-4o-mini", "gpt-4.1-nano"] {
                let tokens = Rule::of(model).unwrap().tokens(image).unwrap();
                // At most eight tiles of the dearest.
                prop_assert!((1..=2_833 + 8 * 5_667).contains(&tokens), "{model}: {tokens} for {image:?}");
            }
        }
    }
}

// === The rules ===

fn tokens(model: &str, width: u32, height: u32, detail: &str) -> Option<u64> {
    let url = format!("data:image/png;base64,{}", STANDARD.encode(png(width, height)));
    let image = Image::of(&json!({ "type": "image_url", "image_url": { "url": url, "detail": detail } }))?;
    Rule::of(model)?.tokens(image)
}

#[test]
fn tiles_are_counted_as_in_the_guides_examples() {
    // 1024 × 1024: scaled to 768 × 768, four tiles: 170 × 4 + 85.
    assert_eq!(tokens("gpt-4o", 1_024, 1_024, "high"), Some(765));
    // 2048 × 4096: scaled to 1024 × 2048, then to 768 × 1536, six tiles: 170 × 6 + 85.
    assert_eq!(tokens("gpt-4o", 2_048, 4_096, "high"), Some(1_105));
    assert_eq!(tokens("gpt-4o", 4_096, 8_192, "low"), Some(85));
    // The same images: 5667 × 4 + 2833, 5667 × 6 + 2833, 2833.
    assert_eq!(tokens("gpt-4o-mini", 1_024, 1_024, "high"), Some(25_501));
    assert_eq!(tokens("gpt-4o-mini", 2_048, 4_096, "high"), Some(36_835));
    assert_eq!(tokens("gpt-4o-mini", 4_096, 8_192, "low"), Some(2_833));
    for model in ["gpt-4.1-2025-04-14", "gpt-4.5-preview", "gpt-4-turbo", "gpt-4-vision-preview"] {
        assert_eq!(tokens(model, 1_024, 1_024, "high"), Some(765), "{model}");
    }
}

/// Counts that users of OpenAI's forum measured, less those of the text around the image ("Vision: more than one way to
/// send a request", "Vision pricing calculator: inaccurate resizing/rounding vs API costs").
#[test]
fn tiles_are_rounded_as_they_were_measured() {
    for (model, width, height, detail, measured) in [
        // One tile: an image is not made larger.
        ("gpt-4o", 128, 64, "low", 97 - 12),
        ("gpt-4o", 128, 64, "high", 267 - 12),
        ("gpt-4.1", 128, 64, "high", 267 - 12),
        ("gpt-4o-mini", 128, 64, "low", 2_845 - 12),
        ("gpt-4o-mini", 128, 64, "high", 8_512 - 12),
        // 513 × 2048 / 2049 = 512.7: two rows. 513 × 2048 / 2050 = 512.5 less a bit: one row.
        ("gpt-4.1", 2_049, 513, "high", 1_453 - 8),
        ("gpt-4.1", 2_050, 513, "high", 773 - 8),
    ] {
        assert_eq!(tokens(model, width, height, detail), Some(measured), "{model} {width} {height} {detail}");
    }
}

#[test]
fn patches_are_counted_as_in_the_guides_examples() {
    // 1024 × 1024: 32 × 32 = 1024 patches; times 1.62 = 1658.88, times 2.46 = 2519.04.
    assert_eq!(tokens("gpt-4.1-mini", 1_024, 1_024, "high"), Some(1_659));
    assert_eq!(tokens("gpt-4.1-nano", 1_024, 1_024, "high"), Some(2_520));
    // 1800 × 2400: scaled to 1056 × 1408, 33 × 44 = 1452 patches; times 1.62 = 2352.24.
    assert_eq!(tokens("gpt-4.1-mini", 1_800, 2_400, "high"), Some(2_353));
    // 4000 × 1474: scaled to 2048 × 755, 64 × 24 = 1536 patches; times 1.62 = 2488.32. Measured are 2498 with a text.
    assert_eq!(tokens("gpt-4.1-mini", 4_000, 1_474, "high"), Some(2_489));
    assert_eq!(tokens("gpt-4.1-mini", 1, 1, "high"), Some(2));
    assert_eq!(tokens("gpt-4.1-mini", u32::MAX, u32::MAX, "high"), Some((39 * 39 * 162_u64).div_ceil(100)));
}

#[test]
fn what_the_guide_leaves_open_is_not_guessed() {
    for detail in ["auto", "", "original", "LOW"] {
        assert_eq!(tokens("gpt-4o", 64, 64, detail), None, "{detail}");
    }
    assert_eq!(tokens("gpt-4.1-mini", 64, 64, "low"), None);
    assert_eq!(tokens("gpt-4", 64, 64, "low"), None);
    assert_eq!(tokens("gpt-3.5-turbo", 64, 64, "low"), None);
    assert_eq!(tokens("gpt-4o", 0, 64, "high"), None);
}

// === The spans ===

fn with_image(part: &Json) -> Option<(u64, &'static str)> {
    let content = json!([{ "type": "text", "text": "What is in this image?" }, part]).to_string();
    let attributes = [("gen_ai.prompt.0.content", json!(content)), ("gen_ai.completion.0.content", json!("A cat."))];
    estimated("chat", "gpt-4o", &attributes)
}

#[test]
fn images_are_read_in_the_forms_of_the_apis_and_conventions() {
    let base64 = STANDARD.encode(png(1_024, 1_024));
    let data = format!("data:image/png;base64,{base64}");
    // Six for the text, 4 and 3 for the chat, and the image.
    let low = Some((13 + 85, "tiktoken/o200k_base+images"));
    let high = Some((13 + 765, "tiktoken/o200k_base+images"));
    for (part, expected) in [
        (json!({ "type": "image_url", "image_url": { "url": "https://x/y.png", "detail": "low" } }), low),
        (json!({ "type": "image_url", "image_url": { "url": data, "detail": "low" } }), low),
        (json!({ "type": "image_url", "image_url": { "url": data, "detail": "high" } }), high),
        (json!({ "type": "input_image", "image_url": data, "detail": "high" }), high),
        (json!({ "type": "blob", "modality": "image", "content": base64, "detail": "high" }), high),
        (json!({ "type": "uri", "modality": "image", "uri": data, "detail": "high" }), high),
        // What is at an address is not known; nor is what the model chooses.
        (json!({ "type": "image_url", "image_url": { "url": "https://x/y.png", "detail": "high" } }), None),
        (json!({ "type": "image_url", "image_url": { "url": data } }), None),
        (json!({ "type": "image_url", "image_url": { "url": data, "detail": "auto" } }), None),
        (json!({ "type": "blob", "modality": "image", "content": base64 }), None),
        (json!({ "type": "blob", "modality": "audio", "content": base64, "detail": "low" }), None),
        (json!({ "type": "image_url", "image_url": { "url": 1, "detail": "low" } }), None),
        (json!({ "type": "image", "image": base64 }), None),
    ] {
        assert_eq!(with_image(&part), expected, "{part}");
    }
}

#[test]
fn a_large_image_is_no_large_text() {
    let mut file = png(1_024, 1_024);
    file.resize(1_000_000, 0);
    let url = format!("data:image/png;base64,{}", STANDARD.encode(file));
    let image = json!({ "type": "image_url", "image_url": { "url": url, "detail": "high" } });
    assert_eq!(with_image(&image), Some((13 + 765, "tiktoken/o200k_base+images")));
    // The same as a text would be too much to count.
    assert_eq!(with_image(&json!({ "type": "text", "text": url })), None);
}

/// An image of the corpus that the provider counted: 2560 × 1669, scaled to 2048 × 1335, then to 1178 × 768, six tiles.
/// No detail was asked for, and the model chose the high one.
#[test]
fn an_image_is_counted_as_the_provider_did() {
    let file = corpus::files("traces/traceloop-node-b__9.pb").into_values().next().unwrap();
    let batch = Batch::decode(Signal::Traces, file.into()).unwrap();
    let is_vision = |model: &str| model == "gpt-4-1106-vision-preview";
    let span = batch.spans().find(|span| {
        let model = span.attr("gen_ai.response.model").and_then(|model| model.as_str());
        model.is_some_and(is_vision) && span.attr("gen_ai.input.messages").is_some()
    });
    let messages = span.unwrap().attr("gen_ai.input.messages").unwrap().as_str().unwrap();
    let mut part = serde_json::from_str::<Json>(messages).unwrap()[0]["parts"][1].take();
    assert!(Image::of(&part).is_none());
    part["detail"] = json!("high");
    let tokens = Rule::of("gpt-4-1106-vision-preview").unwrap().tokens(Image::of(&part).unwrap());
    // The text is six tokens, and the chat adds 4 and 3.
    assert_eq!(tokens, Some(1_118 - 13));
}
