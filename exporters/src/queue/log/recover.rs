//! What a directory holds when it is opened.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::record::{self, HEADER, Header, Kind, MAGIC};
use super::{Place, Segment, State};

/// The name of a segment's file.
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:020}.log")
}

/// The numbers of the segments in a directory, in ascending order.
fn segments(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        // What has another name was not put there by us.
        found.extend(number.filter(|number| name.to_str() == Some(file_name(*number).as_str())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads what is in all segments. All batches that are not done with wait.
pub(super) fn recover(directory: &Path) -> io::Result<State> {
    let mut state = State::default();
    let segments = segments(directory)?;
    for segment in &segments {
        let is_last = segments.last() == Some(segment);
        read_segment(directory, *segment, is_last, &mut state)?;
    }
    state.waiting = state.batches.keys().map(|number| (*number, None)).collect();
    Ok(state)
}

fn read_segment(directory: &Path, segment: u64, is_last: bool, state: &mut State) -> io::Result<()> {
    let file = File::open(directory.join(file_name(segment)))?;
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(64 << 10, file);
    state.segments.insert(segment, Segment { bytes: len, ..Segment::default() });
    let mut magic = [0; MAGIC.len()];
    let mut offset = MAGIC.len() as u64;
    let mut is_sound = len >= offset;
    if is_sound {
        reader.read_exact(&mut magic)?;
        is_sound = magic == MAGIC;
    }
    // A batch with a wrong checksum: damaged if something sound comes after it, else not written to its end.
    let mut doubtful = None;
    while is_sound && offset < len {
        let Some((place, is_whole)) = read_record(&mut reader, segment, offset, len, is_last)? else {
            is_sound = false;
            break;
        };
        offset = place.offset + place.header.payload_len();
        if let Some(damaged) = doubtful.take() {
            state.put(damaged);
        }
        match place.header.kind {
            Kind::Batch if is_whole => state.put(place),
            Kind::Batch => doubtful = Some(place),
            Kind::Done => {
                state.last_number = state.last_number.max(place.header.number);
                state.finish(place.header.number);
            }
        }
    }
    // The end of the last segment may have been under way, and was promised to nobody.
    if !is_sound && !is_last {
        state.damaged += 1;
        state.segments.entry(segment).or_default().is_damaged = true;
        let file = directory.join(file_name(segment));
        tracing::error!(
            "{}: cannot be read from byte {offset} on; batches behind it are lost, and the file will be kept",
            file.display()
        );
    }
    Ok(())
}

/// The record at `offset`, and whether its payload has the right checksum, which is looked at where it `may_be_torn`;
/// `None` if there is none.
fn read_record(
    reader: &mut BufReader<File>,
    segment: u64,
    offset: u64,
    len: u64,
    may_be_torn: bool,
) -> io::Result<Option<(Place, bool)>> {
    let mut header = [0; HEADER];
    let payload = offset + HEADER as u64;
    if payload > len {
        return Ok(None);
    }
    reader.read_exact(&mut header)?;
    let Some(header) = Header::decode(&header) else { return Ok(None) };
    if payload + header.payload_len() > len {
        return Ok(None);
    }
    let mut is_whole = true;
    if may_be_torn && header.kind == Kind::Batch {
        let mut bytes = Vec::new();
        reader.by_ref().take(header.payload_len()).read_to_end(&mut bytes)?;
        is_whole = record::checksum([&bytes[..]]) == header.checksum;
    } else {
        // Within what is buffered this reads nothing anew.
        reader.seek_relative(header.payload_len() as i64)?;
    }
    Ok(Some((Place { segment, offset: payload, header }, is_whole)))
}

/// The payload of a batch.
pub(super) fn read_payload(file: &mut File, place: Place) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(place.offset))?;
    let mut payload = vec![0; place.header.payload_len() as usize];
    file.read_exact(&mut payload)?;
    Ok(payload)
}
