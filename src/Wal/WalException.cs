// WalException: what opening a log can say to an operator. Thrown at the edges only, never on the hot path.
using System;

namespace Cairn.Wal;

/// <summary>The log cannot be used; the message says where, what was expected and what to do.</summary>
public class WalException : Exception
{
    public WalException(string message)
        : base(message)
    {
    }

    public WalException(string message, Exception cause)
        : base(message, cause)
    {
    }
}

/// <summary>Another process holds the lock of a segment.</summary>
public sealed class WalLockedException : WalException
{
    public WalLockedException(string path)
        : base($"{path}: locked by another process; is another member running on this data directory? Stop it first")
    {
        Path = path;
    }

    /// <summary>The locked segment.</summary>
    public string Path { get; }
}

/// <summary>Data that had been synced is damaged. Nothing was changed on disk.</summary>
public sealed class WalCorruptException : WalException
{
    public WalCorruptException(string path, long offset, string found)
        : base($"{path}: offset {offset}: {found}. The log was left as it is: restore this member from a snapshot, or " +
               "remove it from the cluster and add it again with an empty data directory")
    {
        Path = path;
        Offset = offset;
    }

    /// <summary>The damaged segment.</summary>
    public string Path { get; }

    /// <summary>Byte offset of the first bad frame.</summary>
    public long Offset { get; }
}
