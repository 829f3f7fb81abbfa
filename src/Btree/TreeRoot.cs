// TreeRoot: one durable state of the tree, and the pin that keeps its pages from being reused.
namespace Cairn.Btree;

/// <summary>A committed state: immutable, usable by any thread that holds a pin on it.</summary>
public sealed class TreeRoot
{
    internal TreeRoot(ulong txId, ulong rootPage, ulong sequence, ulong highWater, ulong freelistPage)
    {
        TxId = txId;
        RootPage = rootPage;
        Sequence = sequence;
        HighWater = highWater;
        FreelistPage = freelistPage;
    }

    /// <summary>Number of the commit that made it.</summary>
    public ulong TxId { get; }

    /// <summary>Page of the root bucket's tree.</summary>
    public ulong RootPage { get; }

    /// <summary>First page number this state has never used; its logical size in pages.</summary>
    public ulong HighWater { get; }

    internal ulong Sequence { get; }

    internal ulong FreelistPage { get; }

    /// <summary>Pins held. Guarded by the tree's pin lock.</summary>
    internal int Pins { get; set; }
}

/// <summary>Keeps the pages of <see cref="Root"/> in place until given back, once, to <see cref="Tree.Unpin"/>.</summary>
public readonly struct TreePin
{
    internal TreePin(TreeRoot root)
    {
        Root = root;
    }

    public TreeRoot Root { get; }

    /// <summary>False for a default value, which pins nothing.</summary>
    public bool IsValid => Root is not null;
}
