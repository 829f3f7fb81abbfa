// RaftCommand: what other threads ask of the raft thread besides proposals and reads. Rare.
namespace Cairn.Core.Server;

internal enum RaftCommandKind : byte
{
    /// <summary>Hand leadership to Target (0: the best voter); the slot is told when it leads, or that time is up.</summary>
    MoveLeader,

    /// <summary>Whether the learner Target has nearly what this leader has; the slot gets the answer.</summary>
    IsInSync,

    /// <summary>Campaign now, as a timeout would.</summary>
    Campaign,
}

/// <summary>One item of the command ring. It owns a pipeline reference to its slot, if it has one.</summary>
internal struct RaftCommand
{
    public RaftCommandKind Kind;
    public ulong Target;
    public RequestSlot? Slot;
}
