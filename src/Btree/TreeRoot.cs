// TreeRoot: one durable state of the tree, and the pin that keeps its pages from being reused. Both are values: a commit
// leaves nothing for the collector, and no holder can see a state object put to another use.
namespace Cairn.Btree;

/// <summary>A committed state: usable by any thread that holds a pin on it. The default value is no state.</summary>
public readonly record struct TreeRoot
{
    internal TreeRoot(ulong txId, ulong rootPage, ulong sequence, ulong highWater, ulong freelistPage)
    {
        TxId = txId;
        RootPage = rootPage;
        Sequence = sequence;
        HighWater = highWater;
        FreelistPage = freelistPage;
    }

    /// <summary>Number of the commit that made it; no two states of an open tree share one.</summary>
    public ulong TxId { get; }

    /// <summary>Page of the root bucket's tree.</summary>
    public ulong RootPage { get; }

    /// <summary>First page number this state has never used; its logical size in pages.</summary>
    public ulong HighWater { get; }

    internal ulong Sequence { get; }

    internal ulong FreelistPage { get; }

    /// <summary>False for the default value: every state has its metas at least.</summary>
    internal bool IsValid => HighWater != 0;
}

/// <summary>Keeps the pages of <see cref="Root"/> in place until given back, once, to <see cref="Tree.Unpin"/>.</summary>
public readonly struct TreePin
{
    internal TreePin(in TreeRoot root)
    {
        Root = root;
    }

    public TreeRoot Root { get; }

    /// <summary>False for a default value, which pins nothing.</summary>
    public bool IsValid => Root.IsValid;
}
