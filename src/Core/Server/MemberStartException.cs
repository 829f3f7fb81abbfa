// MemberStartException: why a member refused to start. One line an operator can act on; nothing was written.
using System;

namespace Cairn.Core.Server;

/// <summary>The data directory or the options do not allow a start.</summary>
public sealed class MemberStartException : Exception
{
    public MemberStartException(string message)
        : base(message)
    {
    }

    public MemberStartException(string message, Exception cause)
        : base(message, cause)
    {
    }
}
