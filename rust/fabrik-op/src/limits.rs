//! Every limit of `op.cddl`, once, with its unit.

/// Version of the op, segment and merge specification.
pub const SPEC_VERSION: u64 = 1;
/// Largest op body in bytes. Bounds what one call may hold in memory before its signature is known to be good.
pub const OP_BYTES_MAX: usize = 65_536;
/// Largest segment in bytes: one frame of the sync protocol.
pub const SEGMENT_BYTES_MAX: usize = 262_144;
/// Largest proof in bytes: one op with the digests of a whole segment of small ones after it, or two segments.
pub const PROOF_BYTES_MAX: usize = 1_048_576;
/// Arrays and maps open at one time, the outermost of the item included. Bounds the decoder's stack.
pub const DEPTH_MAX: usize = 16;
/// Largest raise of a log's clock by one op. Bounds how far one author can push the mesh clock.
pub const LAMPORT_STEP_MAX: u64 = 1 << 24;
/// Ceiling of lamport clocks, sequence numbers and wall times: what every JSON reader keeps exact.
pub const LAMPORT_MAX: u64 = 1 << 53;
/// Highest sequence number.
pub const SEQ_MAX: u64 = 1 << 53;
/// Highest epoch: 21 bits of count, 32 bits of chance.
pub const EPOCH_MAX: u64 = (1 << 53) - 1;
/// Latest wall time in milliseconds since 1970.
pub const WALL_MS_MAX: u64 = 1 << 53;
/// Longest register id in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Longest mesh name in bytes of UTF-8.
pub const MESH_NAME_BYTES_MAX: usize = 64;
/// Heads of one log. A log with more is suspended: it bounds what an author who forks without end can make others keep.
pub const HEADS_MAX: usize = 64;
