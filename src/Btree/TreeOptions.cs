// TreeOptions: how a tree file is opened. Immutable once given to Tree.Open.
namespace Cairn.Btree;

/// <summary>Settings of one open tree file.</summary>
public sealed class TreeOptions
{
    /// <summary>
    /// Address space reserved for the map, bytes; the file can never grow beyond it while open. Costs no memory.
    /// At least four times the quota is advised. Raised to fit an existing larger file.
    /// </summary>
    public long ReserveBytes { get; init; } = 64L << 30;

    /// <summary>Page size of a file made by this open, bytes; 0 takes the system's. An existing file keeps its own.</summary>
    public int PageSize { get; init; }

    /// <summary>Write the list of free pages with each commit. Off, as in etcd: it is rebuilt by a walk at open.</summary>
    public bool StoreFreelist { get; init; }

    /// <summary>Never call fdatasync. A power cut can then lose the file; for tests and throw-away data only.</summary>
    public bool NoSync { get; init; }

    /// <summary>Put a CRC into the tail of pages that have eight bytes left; bbolt ignores it.</summary>
    public bool PageChecksums { get; init; } = true;

    /// <summary>Times commits for <see cref="Tree.Figures"/>; null: they are not timed.</summary>
    public Cairn.Base.IClock? Clock { get; init; }
}
