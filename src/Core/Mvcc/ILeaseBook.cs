// ILeaseBook: what the store asks of the lease table when it applies puts and deletes. Implemented by Lessor.
using System;

namespace Cairn.Core.Mvcc;

/// <summary>Leases as the store sees them: whether one exists, and which keys hang on it.</summary>
/// <remarks>Thread: store.</remarks>
public interface ILeaseBook
{
    /// <summary>True if the lease is granted and not revoked. Expiry alone changes nothing: only a revoke entry does.</summary>
    bool Exists(long id);

    /// <summary>The key now carries the lease. Attaching twice is fine. The key is borrowed for the call.</summary>
    void Attach(long id, ReadOnlySpan<byte> key);

    /// <summary>The key no longer carries the lease. Unknown lease or key is fine.</summary>
    void Detach(long id, ReadOnlySpan<byte> key);
}
