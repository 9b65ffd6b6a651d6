//! Images in a call's input, and what they add to it.
//!
//! The rules are those of OpenAI's guide "Images and vision", section "Calculating costs"
//! (platform.openai.com/docs/guides/images-vision); images are billed like text. Both need the `detail` that was asked
//! for. Where it is `auto`, which it is where nobody says, "the model chooses", by a rule that is not published.

use serde_json::Value as Json;

use super::header::{Size, size};

/// An image as far as its cost needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    detail: Detail,
    /// Known where the span has the image itself.
    size: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Low,
    High,
}

/// How a family of models counts an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// By squares of 512 pixels, after the image was made to fit.
    Tiles { base: u64, tile: u64 },
    /// By squares of 32 pixels, after the image was made to fit, times a factor in hundredths.
    Patches { factor: u64 },
}

/// Parts of model names and their rules. The first that fits decides.
const RULES: &[(&str, Rule)] = &[
    ("gpt-4o-mini", Rule::Tiles { base: 2_833, tile: 5_667 }),
    ("gpt-4o", Rule::Tiles { base: 85, tile: 170 }),
    ("gpt-4.1-mini", Rule::Patches { factor: 162 }),
    ("gpt-4.1-nano", Rule::Patches { factor: 246 }),
    ("gpt-4.1", Rule::Tiles { base: 85, tile: 170 }),
    ("gpt-4.5", Rule::Tiles { base: 85, tile: 170 }),
    // In the guide's earlier editions, and in "What is Azure OpenAI", section "Image tokens".
    ("gpt-4-turbo", Rule::Tiles { base: 85, tile: 170 }),
    ("gpt-4-vision", Rule::Tiles { base: 85, tile: 170 }),
    ("gpt-4-1106-vision", Rule::Tiles { base: 85, tile: 170 }),
];

/// No side is longer than this in any detail.
const MAX_SIDE: u64 = 2_048;
/// The shorter side is not longer than this where tiles are counted.
const MAX_SHORT_SIDE: u64 = 768;
const TILE: u64 = 512;
const PATCH: f64 = 32.0;
const MAX_PATCHES: u64 = 1_536;

impl Image {
    /// A part of a message: `{type: image_url, image_url: {url, detail}}` of chat completions, `{type: input_image,
    /// image_url, detail}` of responses, `{type: uri | blob, modality, uri | content}` of the GenAI conventions, which
    /// have no place for the detail; some emitters may add it.
    pub(super) fn of(part: &Json) -> Option<Self> {
        let text = |json: &Json, key: &str| json.get(key).and_then(Json::as_str).map(str::to_owned);
        if text(part, "modality").is_some_and(|modality| modality != "image") {
            return None;
        }
        let image = part.get("image_url");
        let detail = image.and_then(|image| text(image, "detail")).or_else(|| text(part, "detail"))?;
        let detail = match detail.as_str() {
            "low" => Detail::Low,
            "high" => Detail::High,
            _ => return None,
        };
        let url = image.map(|image| image.get("url").unwrap_or(image)).or_else(|| part.get("uri"));
        let data = match url {
            Some(url) => url.as_str()?.strip_prefix("data:").and_then(|url| url.split_once(";base64,")).map(|it| it.1),
            None => part.get("content").and_then(Json::as_str),
        };
        Some(Self { detail, size: data.and_then(|data| size(data.as_bytes())) })
    }
}

impl Rule {
    /// `model` is in lower case.
    pub(super) fn of(model: &str) -> Option<Self> {
        RULES.iter().find(|(part, _)| model.contains(part)).map(|(_, rule)| *rule)
    }

    /// What an image adds to the input, if the rule and what is known of the image tell.
    pub(super) fn tokens(self, image: Image) -> Option<u64> {
        match (self, image.detail) {
            (Self::Tiles { base, .. }, Detail::Low) => Some(base),
            (Self::Tiles { base, tile }, Detail::High) => Some(base + tile * tiles(image.size?)),
            (Self::Patches { factor }, Detail::High) => Some((patches(image.size?) * factor).div_ceil(100)),
            // How the small version of the image is counted is not published.
            (Self::Patches { .. }, Detail::Low) => None,
        }
    }
}

/// Squares of 512 pixels that cover the image after it was made to fit into 2048 × 2048, and its shorter side 768.
/// Images are not made larger, and sides are rounded to whole pixels: the guide does not say so, the counts that users
/// of OpenAI's forum measured do (128 × 64 is one tile; 2049 × 513 are eight, 2050 × 513 are four).
fn tiles(Size { width, height }: Size) -> u64 {
    let (mut width, mut height) = (u64::from(width), u64::from(height));
    let longer = width.max(height);
    if longer > MAX_SIDE {
        (width, height) = (scaled(width, MAX_SIDE, longer), scaled(height, MAX_SIDE, longer));
    }
    let shorter = width.min(height);
    if shorter > MAX_SHORT_SIDE {
        (width, height) = (scaled(width, MAX_SHORT_SIDE, shorter), scaled(height, MAX_SHORT_SIDE, shorter));
    }
    width.div_ceil(TILE) * height.div_ceil(TILE)
}

/// `side × to / from`, rounded to the nearest and at least 1.
fn scaled(side: u64, to: u64, from: u64) -> u64 {
    ((side * to * 2 + from) / (from * 2)).max(1)
}

/// Squares of 32 pixels that cover the image after it was made to fit into 2048 × 2048 and 1536 squares, in the guide's
/// formula.
fn patches(Size { width, height }: Size) -> u64 {
    let (width, height) = (f64::from(width), f64::from(height));
    let fit = (MAX_SIDE as f64 / width.max(height)).min(1.0);
    let count = |scale: f64| {
        let side = |pixels: f64| ((pixels * scale).round().max(1.0) / PATCH).ceil() as u64;
        side(width) * side(height)
    };
    let whole = count(fit);
    if whole <= MAX_PATCHES {
        return whole;
    }
    let shrink = (PATCH * PATCH * MAX_PATCHES as f64 / (width * height)).sqrt();
    let whole_part = |pixels: f64| (pixels * shrink / PATCH).floor() / (pixels * shrink / PATCH);
    count(shrink * whole_part(width).min(whole_part(height))).min(MAX_PATCHES)
}
