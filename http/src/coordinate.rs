//! `/v1/coordinate/`: where nodes are in the network.

use std::sync::Arc;

use lictor_catalog::{COORDINATE_DIMENSIONS, CoordinateEntry, Found, NodeCoordinate, Query};
use lictor_gossip as gossip;
use serde::{Deserialize, Serialize};
use trillium_http::Status;

use crate::backend::{ReadOptions, Reading, Secret, WriteOptions};
use crate::decode::{Fields, parse};
use crate::json::Array;
use crate::kv::unexpected;
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;

/// Where the servers of one data center are in the WAN's coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatacenterCoordinates {
    /// The data center.
    pub datacenter: String,
    /// The servers' node names, without the data center, and where each is.
    pub servers: Vec<(String, gossip::Coordinate)>,
}

/// The servers of all data centers.
pub(crate) async fn datacenters(request: &Request<'_>) -> Result<Reply, Fault> {
    check_enabled(request)?;
    let datacenters = request.api.backend.wan_coordinates().await?;
    let servers: usize = datacenters
        .iter()
        .map(|datacenter| datacenter.servers.len())
        .sum();
    let view = Array(|| datacenters.iter().map(DatacenterView::new));
    Ok(request.json(&view, 256 * (servers + datacenters.len())))
}

/// An agent may be told to do without coordinates.
fn check_enabled(request: &Request<'_>) -> Result<(), Fault> {
    if request.api.config.coordinates {
        Ok(())
    } else {
        Err(Fault::new(Status::Unauthorized, "Coordinate support disabled"))
    }
}

/// All nodes.
pub(crate) async fn nodes(request: &mut Request<'_>) -> Result<Reply, Fault> {
    check_enabled(request)?;
    let options = request.read_options()?;
    let (meta, entries) = read(request, Query::Coordinates, options).await?;
    let capacity = 256 * entries.len();
    let reply = request.large_json(Entries(entries), capacity).await;
    Ok(reply.with_meta(meta))
}

/// One node, in each of the network's segments.
pub(crate) async fn node(request: &mut Request<'_>) -> Result<Reply, Fault> {
    check_enabled(request)?;
    let options = request.read_options()?;
    let name = request.rest_text();
    let (meta, entries) = read(request, Query::Coordinate(name.clone()), options).await?;
    if entries.is_empty() {
        return Ok(Reply::not_found());
    }
    // A name in another letter case finds the node, and comes back as it was asked for.
    let view = Array(|| {
        let entries = entries.iter();
        entries.map(|entry| EntryView {
            node: &name,
            ..EntryView::new(entry)
        })
    });
    Ok(request.json(&view, 256).with_meta(meta))
}

/// Says where a node is.
pub(crate) async fn update(request: &mut Request<'_>) -> Result<Reply, Fault> {
    check_enabled(request)?;
    let body = request.small_body().await?;
    let Update {
        datacenter,
        token,
        node,
        segment,
        numbers,
    } = Update::parse(&body)
        .map_err(|error| Fault::bad_request(format!("Request decode failed: {error}")))?;
    let asked = request.params.lenient_write_options(request.headers());
    let options = WriteOptions {
        datacenter: asked.datacenter.or(datacenter),
        token: asked.token.or(token),
    };
    let vector: [f64; COORDINATE_DIMENSIONS] = numbers
        .vector
        .try_into()
        .map_err(|_| Fault::internal("incompatible coordinate"))?;
    let coordinate =
        lictor_catalog::Coordinate::new(vector, numbers.error, numbers.adjustment, numbers.height)
            .map_err(|error| Fault::internal(error.to_string()))?;
    let update = NodeCoordinate {
        node,
        segment,
        coordinate,
    };
    request.api.backend.update_coordinate(update, options).await?;
    Ok(Reply::empty())
}

/// The answer to a query about coordinates, without those of segments that were not asked for.
async fn read(
    request: &mut Request<'_>,
    query: Query,
    options: ReadOptions,
) -> Result<(Meta, Vec<Arc<CoordinateEntry>>), Fault> {
    let reading: Reading<Found> = request
        .read(query, options)
        .await
        .map_err(|fault| fault.with_meta(Meta::UNKNOWN))?;
    let meta = Meta::blocking(&reading);
    let Found::Coordinates(mut entries) = reading.value else {
        return Err(unexpected());
    };
    if let Some(segment) = request.params.get("segment") {
        entries.retain(|entry| entry.update.segment.as_bytes() == segment);
    }
    Ok((meta, entries))
}

/// The body of an update.
struct Update {
    datacenter: Option<String>,
    token: Option<Secret>,
    node: String,
    segment: String,
    numbers: Numbers,
}

/// A coordinate of any number of dimensions, not checked yet.
struct Numbers {
    vector: Vec<f64>,
    error: f64,
    adjustment: f64,
    height: f64,
}

impl Update {
    fn parse(body: &[u8]) -> Result<Self, String> {
        let place = "value of type structs.CoordinateUpdateRequest";
        let mut fields = Fields::new(parse(body)?, "CoordinateUpdateRequest", place)?;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let datacenter = given(fields.string("Datacenter", "string")?);
        let token = given(fields.string("Token", "string")?).map(Secret::new);
        let node = fields.string("Node", "string")?;
        let segment = fields.string("Segment", "string")?;
        let coord = fields.take("Coord");
        fields.finish()?;
        let place = "struct field CoordinateUpdateRequest.Coord of type coordinate.Coordinate";
        let coord = coord.ok_or("there is no Coord: it must have Vec, Error, Adjustment and Height")?;
        let mut fields = Fields::new(coord, "Coordinate.Coord", place)?;
        let numbers = Numbers {
            vector: fields.floats("Vec")?,
            error: fields.float("Error")?,
            adjustment: fields.float("Adjustment")?,
            height: fields.float("Height")?,
        };
        fields.finish()?;
        Ok(Self {
            datacenter,
            token,
            node,
            segment,
            numbers,
        })
    }
}

/// A coordinate as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Position<'a> {
    vec: &'a [f64],
    error: f64,
    adjustment: f64,
    height: f64,
}

impl<'a> Position<'a> {
    /// That of a member of a pool.
    pub(crate) fn of_member(coordinate: &'a gossip::Coordinate) -> Self {
        Self {
            vec: &coordinate.vector,
            error: coordinate.error,
            adjustment: coordinate.adjustment,
            height: coordinate.height,
        }
    }

    fn of_node(coordinate: &'a lictor_catalog::Coordinate) -> Self {
        Self {
            vec: coordinate.vector(),
            error: coordinate.error(),
            adjustment: coordinate.adjustment(),
            height: coordinate.height(),
        }
    }
}

/// Where a node is, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EntryView<'a> {
    node: &'a str,
    segment: &'a str,
    coord: Position<'a>,
}

impl<'a> EntryView<'a> {
    fn new(entry: &'a CoordinateEntry) -> Self {
        Self {
            node: &entry.update.node,
            segment: &entry.update.segment,
            coord: Position::of_node(&entry.update.coordinate),
        }
    }
}

/// Many of them as JSON.
struct Entries(Vec<Arc<CoordinateEntry>>);

impl Serialize for Entries {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|entry| EntryView::new(entry)))
    }
}

/// Where the servers of a data center are, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DatacenterView<'a> {
    datacenter: &'a str,
    #[serde(rename = "AreaID")]
    area_id: &'static str,
    coordinates: Vec<EntryView<'a>>,
}

impl<'a> DatacenterView<'a> {
    fn new(datacenter: &'a DatacenterCoordinates) -> Self {
        let servers = datacenter.servers.iter();
        let coordinates = servers.map(|(node, coordinate)| EntryView {
            node,
            segment: "",
            coord: Position::of_member(coordinate),
        });
        Self {
            datacenter: &datacenter.datacenter,
            area_id: "wan",
            coordinates: coordinates.collect(),
        }
    }
}
