// Progress: what a leader knows of one member of the configuration, itself included.
//
// One voter needs only Match of itself (its own durable index). Sending to others (probe, replicate, snapshot, the
// window of frames in flight) belongs to the issue that brings peers; its fields come with it.
namespace Cairn.Core.Raft;

/// <summary>Replication state of one member as its leader sees it.</summary>
internal sealed class Progress
{
    public Progress(ulong id, bool isLearner)
    {
        Id = id;
        IsLearner = isLearner;
    }

    public ulong Id { get; }

    public bool IsLearner { get; set; }

    /// <summary>Highest index known to be durable there and equal to ours.</summary>
    public ulong Match { get; set; }

    /// <summary>Next index to send; always above <see cref="Match"/>.</summary>
    public ulong Next { get; set; } = 1;

    /// <summary>Highest read counter of this term it has confirmed (see ReadQueue).</summary>
    public ulong ReadEcho { get; set; }
}
