//! Asking an endpoint for a blob, for the rest of it, or for a part of it.
//!
//! Start reading at [`BlobRequest::open`] and [`BlobRequest::fetch_part`]. What an answer claims (status, range, length) is
//! checked here, before a byte of it is used; what to do about a wrong one is decided in `pull.rs`.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};

use crate::client::Repository;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::manifest::Descriptor;
use crate::net::connect::cut_short;
use crate::net::transport::{Request, Response};

/// What one of several connections fetches at a time. With the number of connections it bounds the memory of one
/// download; smaller ones would spend their time on round trips.
const PART: u64 = 4 << 20;

/// A blob to be asked for.
#[derive(Clone, Copy)]
pub(crate) struct BlobRequest<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) blob: &'a Descriptor,
}

/// Whether a server is asked for the rest of a blob, or for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranges {
    Ask,
    /// It has answered nonsense to a range: fetch everything and skip what is there.
    Avoid,
}

/// A body to be read.
pub(crate) struct Opened {
    pub(crate) response: Response,
    /// How many bytes of it are here already.
    pub(crate) skip: u64,
}

/// Why one attempt did not bring the whole blob.
pub(crate) enum Interruption {
    /// The sink does not take it.
    Sink(std::io::Error),
    /// The endpoint has other content under this digest than the manifest says.
    Unfit(RegistryError),
    /// Anything else; perhaps worth another attempt.
    Failed(Box<Failure>),
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<RegistryError> for Interruption {
    fn from(error: RegistryError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// The parts of a blob from `position` on: first and last byte of each.
pub(crate) fn parts_of(position: u64, size: u64) -> impl Iterator<Item = (u64, u64)> + Send {
    std::iter::successors(Some(position), |first| first.checked_add(PART))
        .take_while(move |first| *first < size)
        .map(move |first| (first, first.saturating_add(PART).min(size) - 1))
}

impl BlobRequest<'_> {
    /// Opens the blob at `position`. An answer to a range that makes no sense is not asked for again.
    pub(crate) async fn open(
        self,
        endpoint: &Endpoint,
        position: u64,
        ranges: &mut Ranges,
    ) -> Result<Opened, Interruption> {
        if position > 0 && *ranges == Ranges::Ask {
            let response = match self.send(endpoint, Some(format!("bytes={position}-"))).await {
                Err(failure) if failure.status == Some(StatusCode::RANGE_NOT_SATISFIABLE) => None,
                other => Some(other?),
            };
            match response {
                Some(response) if response.status() != StatusCode::PARTIAL_CONTENT => {
                    self.check_length(&response, self.blob.size)?;
                    return Ok(Opened { response, skip: position });
                }
                Some(response) if self.range_begins_at(&response, position) => {
                    self.check_length(&response, self.blob.size - position)?;
                    return Ok(Opened { response, skip: 0 });
                }
                _ => *ranges = Ranges::Avoid,
            }
        }
        let response = self.send(endpoint, None).await?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            return Err(response.invalid("unasked-for partial content").into());
        }
        self.check_length(&response, self.blob.size)?;
        Ok(Opened { response, skip: position })
    }

    /// Fetches the bytes from `first` to `last` into memory; `None` if the endpoint does not serve parts.
    pub(crate) async fn fetch_part(
        self,
        endpoint: &Endpoint,
        (first, last): (u64, u64),
    ) -> Result<Option<Vec<Bytes>>, Interruption> {
        let mut response = match self.send(endpoint, Some(format!("bytes={first}-{last}"))).await {
            Err(failure) if failure.status == Some(StatusCode::RANGE_NOT_SATISFIABLE) => return Ok(None),
            other => other?,
        };
        if response.status() != StatusCode::PARTIAL_CONTENT || !self.range_begins_at(&response, first) {
            return Ok(None);
        }
        let expected = last - first + 1;
        self.check_length(&response, expected)?;
        let mut chunks = Vec::new();
        let mut received = 0;
        while let Some(chunk) = response.chunk().await? {
            received += chunk.len() as u64;
            if received > expected {
                return Err(Interruption::Unfit(self.wrong_length()));
            }
            chunks.push(chunk);
        }
        if received < expected {
            Err(cut_short(&response.method, &response.uri).into())
        } else {
            Ok(Some(chunks))
        }
    }

    async fn send(self, endpoint: &Endpoint, range: Option<String>) -> Result<Response, Failure> {
        let path = format!("/{}/blobs/{}", self.repository.image.path(), self.blob.digest);
        let mut request = Request::new(Method::GET, endpoint.uri(&path).await?);
        // The digest is of the blob itself, not of some encoding of it.
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
            request.headers.insert(RANGE, range);
        }
        endpoint.exchange(&self.repository.directory.auth, &self.repository.pull_access(), request).await
    }

    /// `bytes <first>-<last>/<size or *>` (RFC 9110, section 14.4).
    fn range_begins_at(self, response: &Response, position: u64) -> bool {
        let parsed = response.header(CONTENT_RANGE).and_then(|text| {
            let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
            let first = range.split_once('-')?.0.trim().parse::<u64>().ok()?;
            Some((first, size.trim().parse::<u64>().ok()))
        });
        parsed
            .is_some_and(|(first, size)| first == position && size.is_none_or(|size| size == self.blob.size))
    }

    fn check_length(self, response: &Response, expected: u64) -> Result<(), Interruption> {
        let announced = response.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        match announced {
            Some(announced) if announced != expected => Err(Interruption::Unfit(self.wrong_length())),
            _ => Ok(()),
        }
    }

    /// The error of content that cannot be the blob.
    pub(crate) fn wrong_length(self) -> RegistryError {
        RegistryError::BlobLength { digest: self.blob.digest, size: self.blob.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_rest_of_a_blob_without_gaps() {
        let parts = |position, size| parts_of(position, size).collect::<Vec<_>>();
        assert_eq!(parts(0, PART), [(0, PART - 1)]);
        assert_eq!(parts(7, PART + 8), [(7, PART + 6), (PART + 7, PART + 7)]);
        assert_eq!(parts(5, 5), []);
        assert_eq!(parts(u64::MAX - 1, u64::MAX), [(u64::MAX - 1, u64::MAX - 1)]);
    }
}
