// ListenException: an address that cannot be bound.
using System;

namespace Cairn.Net.Host;

/// <summary>The address and the system's reason, in Go's words.</summary>
public sealed class ListenException : Exception
{
    public ListenException(string message, Exception cause)
        : base(message, cause)
    {
    }
}
