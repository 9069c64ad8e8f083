//! Smaller pictures: 256 colours instead of 16 million, which a page of flat colours and thin lines does not miss.

use std::collections::HashMap;
use std::io::{BufRead, Seek, Write};

use anyhow::{Context as _, ensure};

/// Red, green, blue.
type Colour = [u8; 3];

/// As many as one byte can name.
const COLOURS: usize = 256;

/// Copies a PNG of three bytes a pixel as one of one byte.
pub(super) fn reduce(from: impl BufRead + Seek, to: impl Write) -> anyhow::Result<()> {
    let mut reader = png::Decoder::new(from).read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().context("too large a picture")?];
    let info = reader.next_frame(&mut bytes)?;
    ensure!(
        (info.color_type, info.bit_depth) == (png::ColorType::Rgb, png::BitDepth::Eight),
        "a picture of {:?} {:?}",
        info.color_type,
        info.bit_depth
    );
    let (pixels, _) = bytes.as_chunks::<3>();
    let palette = palette(pixels);
    let mut known = HashMap::new();
    let indices: Vec<u8> = pixels
        .iter()
        .map(|pixel| {
            *known
                .entry(*pixel)
                .or_insert_with(|| nearest(*pixel, &palette))
        })
        .collect();
    let mut encoder = png::Encoder::new(to, info.width, info.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::High);
    // Neighbours in a palette have nothing in common.
    encoder.set_filter(png::Filter::NoFilter);
    Ok(encoder.write_header()?.write_image_data(&indices)?)
}

/// The colours that are seen most, where those that hardly differ count as the most frequent of them.
fn palette(pixels: &[Colour]) -> Vec<Colour> {
    let mut seen: HashMap<Colour, u64> = HashMap::new();
    for pixel in pixels {
        *seen.entry(*pixel).or_default() += 1;
    }
    let mut alike: HashMap<Colour, (u64, u64, Colour)> = HashMap::new();
    for (colour, count) in seen {
        let (sum, most, first) = alike.entry(colour.map(|part| part >> 3)).or_default();
        *sum += count;
        // Of two that are as frequent the same one each time.
        if (count, colour) > (*most, *first) {
            (*most, *first) = (count, colour);
        }
    }
    let mut groups: Vec<_> = alike.into_values().collect();
    groups.sort_unstable_by(|one, other| other.cmp(one));
    groups.truncate(COLOURS);
    groups.into_iter().map(|(_, _, colour)| colour).collect()
}

fn nearest(colour: Colour, palette: &[Colour]) -> u8 {
    let distance = |other: &Colour| -> u32 {
        let parts = colour.iter().zip(other);
        parts
            .map(|(one, other)| u32::from(one.abs_diff(*other)).pow(2))
            .sum()
    };
    let at = (0..palette.len()).min_by_key(|at| distance(&palette[*at]));
    at.and_then(|at| u8::try_from(at).ok())
        .expect("a palette has 1 to 256 colours")
}
