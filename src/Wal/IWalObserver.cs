// IWalObserver: the metrics hook of the WAL thread.
namespace Cairn.Wal;

/// <summary>Told about every sync; called on the WAL thread, must not block or allocate.</summary>
public interface IWalObserver
{
    /// <summary>A batch became durable.</summary>
    /// <param name="syncNs">Duration of the fdatasync alone, nanoseconds.</param>
    /// <param name="bytes">Bytes written since the sync before.</param>
    /// <param name="units">Units the batch held.</param>
    void Synced(long syncNs, long bytes, int units);
}
