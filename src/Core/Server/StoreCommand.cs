// StoreCommand: what other threads ask of the store thread besides applying entries.
namespace Cairn.Core.Server;

internal enum StoreCommandKind : byte
{
    /// <summary>Answer a <see cref="StoreQuery"/>.</summary>
    Query,

    /// <summary>Freeze now; answer when what is applied now is durable in the tree.</summary>
    Freeze,
}

/// <summary>One item of the command ring. The command owns a pipeline reference to its slot.</summary>
internal struct StoreCommand
{
    public StoreCommandKind Kind;
    public RequestSlot Slot;
    public StoreQuery Query;
}
