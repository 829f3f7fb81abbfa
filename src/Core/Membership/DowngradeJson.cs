// DowngradeJson: the value of bucket cluster, key downgrade: {"target-version":"3.5.0","enabled":true}.
using System;
using System.IO;
using System.Text.Json;

namespace Cairn.Core.Membership;

/// <summary>Reads a stored downgrade.</summary>
internal static class DowngradeJson
{
    /// <exception cref="InvalidDataException">Not that JSON.</exception>
    public static DowngradeInfo Parse(ReadOnlySpan<byte> json)
    {
        string target = string.Empty;
        bool enabled = false;
        try
        {
            var reader = new Utf8JsonReader(json);
            reader.Read();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("target-version"u8))
                {
                    reader.Read();
                    target = reader.GetString() ?? string.Empty;
                }
                else if (reader.ValueTextEquals("enabled"u8))
                {
                    reader.Read();
                    enabled = reader.GetBoolean();
                }
                else
                {
                    reader.Skip();
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"bucket cluster: downgrade does not parse: {e.Message}", e);
        }

        return enabled ? new DowngradeInfo(true, target) : DowngradeInfo.None;
    }
}
