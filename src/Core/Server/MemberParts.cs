// MemberParts: what an opened data directory turns into. Made by MemberOpener, owned by Member.
using Cairn.Btree;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

/// <summary>The opened files and restored state of one member.</summary>
internal sealed class MemberParts
{
    internal required DataDirectory Directory { get; init; }

    internal required Tree Tree { get; init; }

    internal required WalLog Log { get; init; }

    internal required StateMachine Machine { get; init; }

    internal required RaftCore Core { get; init; }

    internal required WalMetadata Identity { get; init; }

    /// <summary>consistent_index: apply begins behind it.</summary>
    internal required ulong AppliedIndex { get; init; }

    internal required ulong AppliedTerm { get; init; }

    /// <summary>Index of the newest usable snapshot record; 0 for none.</summary>
    internal required ulong SnapshotIndex { get; init; }

    /// <summary>This start's number; see <see cref="PeerIdentity"/>.</summary>
    internal required ulong Boot { get; init; }

    internal required string StorageVersion { get; init; }
}
